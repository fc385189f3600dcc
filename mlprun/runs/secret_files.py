"""Files that hold passwords and keys, by their names and permissions: no record of a run copies them."""

from __future__ import annotations

import os
import re
import stat

_NAMES = re.compile(
    r"""
    \.env(\.(?!example$|sample$|template$|dist$).*)? | .+\.env | \.envrc | \.direnv
    | [._]netrc | \.pgpass | \.my\.cnf | \.pypirc | \.npmrc | \.htpasswd | \.git-credentials | \.s3cfg | \.boto
    | \.dockercfg | \.vault[-_]?(pass|token).* | \.token | tokens?(\.txt|\.json)? | kaggle\.json
    | .+\.(pem|key|p8|p12|pfx|ppk|jks|keystore|kdbx?|ovpn|gpg|pgp|secret) | id_(rsa|dsa|ecdsa|ed25519)(_sk)?([-_.].*)?
    | \.?(credentials?|secrets?|passwords?|passwd|api[-_]?keys?)(\.(py|json|ya?ml|toml|ini|cfg|conf|txt|csv|env|sh))?
    | (client[-_]secret|service[-_]account|gcp[-_]key).*\.json
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_FOLDERS = {".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker", "gcloud", ".password-store"}


def has_secret_name(path: str) -> bool:
    """Whether a file is known to hold secrets: `.env`, `.netrc`, `id_rsa`, `*.pem`, `credentials.json`, `.ssh/*`."""
    *folders, name = path.split("/")
    return bool(_NAMES.fullmatch(name)) or not _FOLDERS.isdisjoint(folders)


def is_private(path: str) -> bool:
    """Whether its owner has kept a file from all others, unlike a new one."""
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) and not mode & 0o077 and bool(0o666 & ~_umask() & 0o077)


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
