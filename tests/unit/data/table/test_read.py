"""A file becomes cells, or one message about why not."""

from __future__ import annotations

import builtins

import pandas as pd
import pytest

from mlprun.data.table.read import read_frame
from mlprun.errors import ConfigError, DataError


def read(tmp_path, content, name="t.csv"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_frame(file)


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ("a,b\n1,x y\n", ","),
        ("\ufeffa,b\r\n1,x y\r\n", ","),  # Excel's UTF-8
        ("a;b\n1;x y\n", ";"),
        ("a\tb\n1\tx y\n", "\t"),
        ("a|b\n1|x y\n", "|"),
        ('\n"a" , b\n 1, "x y" \n\n', ","),
        ('"a",b\n1,"x y"', ","),
    ],
)
def test_separators_spaces_and_quotes(tmp_path, content, separator):
    frame = read(tmp_path, content)
    assert (frame.separator, frame.cells.to_dict("list")) == (separator, {"a": ["1"], "b": ["x y"]})


def test_texts_stay_as_they_are(tmp_path):
    cells = read(tmp_path, 'a,b,c\n007,NA,"1,5\nx"\n').cells
    assert cells.to_dict("list") == {"a": ["007"], "b": ["NA"], "c": ["1,5\nx"]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "has no rows below the names of its columns: a, b"),
        ("1,2\n3,4\n", "has no names of columns: its first line has 1, 2"),
        ("a,b,a\n1,2,3\n", "has several columns called a"),
        ("a,,\n1,2,3\n", "has columns without a name"),
        ("a,b\n1,2\n3,4,5\n", "expected 2 fields in line 3, saw 3"),
        ("a,b\n1,2\n3\n", "record 3 has 1 cell, and the first 2"),
        ('a,b\n"1,2\n', "EOF inside string"),
        ("a,b\n1,\x00\n", "has a zero byte in line 2"),
        ("a,b\nx,Ä\n".encode("latin1"), "is not UTF-8: byte 0xc4 in line 2, probably Latin-1\n  convert it: iconv"),
        ("a,b\nx,y\n".encode("utf-16"), "is UTF-16"),
        (b"PK\x03\x04", "is a zip archive or an Excel workbook"),
        (b"\x1f\x8b\x08", "is gzip, not a table of text"),
        (b"PAR1 and no more", "is a damaged Parquet file"),
    ],
)
def test_what_is_no_table(tmp_path, content, problem):
    with pytest.raises(DataError) as raised:
        read(tmp_path, content)
    assert problem.lower() in str(raised.value).lower()
    assert str(tmp_path / "t.csv") in str(raised.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_frame(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        read_frame(tmp_path / "gone.csv")


def test_parquet_keeps_numbers(tmp_path):
    frame = pd.DataFrame(
        {"n": [1.5, None], "i": [1, 2], "b": [True, None], "w": ["x", None], "d": pd.to_datetime(["2026-01-02", None])}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    cells = read_frame(tmp_path / "t.parquet").cells
    assert cells["n"].tolist()[0] == 1.5
    assert cells["i"].tolist() == [1, 2]
    assert cells[["b", "w", "d"]].to_numpy().tolist() == [["True", "x", "2026-01-02 00:00:00"], ["", "", ""]]
    pd.DataFrame({"l": [[1], [2]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column l holds ndarray"):
        read_frame(tmp_path / "t.parquet")


@pytest.mark.parametrize(("package", "error"), [("pandas", ConfigError), ("pyarrow", DataError)])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, package, error):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
    find = builtins.__import__

    def without(name, *rest, **words):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return find(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    for module in [
        name for name in __import__("sys").modules if name.partition(".")[0] == package and package == "pyarrow"
    ]:
        monkeypatch.delitem(__import__("sys").modules, module)
    with pytest.raises(error, match=r"pip install 'mlprun\[tables\]'|pip install pyarrow"):
        read_frame(tmp_path / "t.parquet")
