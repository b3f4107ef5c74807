from pathlib import Path

import pytest

import raybert.corpus.sources as sources
from raybert.corpus import cut_into_pieces, find_files
from raybert.errors import InputError


def test_finds_paths_folders_and_globs_once_and_sorted(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "more/c.jsonl", "more/.hidden.txt", "more/_note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n")
    found = find_files([str(tmp_path), f"{tmp_path}/*.txt", f"{tmp_path}/a.txt"])
    assert [Path(uri).name for uri, _, _ in found] == ["a.txt", "b.txt", "c.jsonl"]
    assert [kind for _, kind, _ in found] == ["text", "text", "jsonl"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.txt", "no such file"),
        ("*.csv", "no file matches"),
        ("a.docx", r"ending in '\.docx' cannot be read: \.csv, \.jsonl"),
        ("nosuch://x.txt", "nosuch"),
    ],
)
def test_what_cannot_be_found_is_named(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "a.docx").write_text("x")
    where = pattern if "://" in pattern else str(tmp_path / pattern)
    with pytest.raises(InputError, match=message):
        find_files([where])


def test_a_line_file_is_cut_at_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    monkeypatch.setattr(sources, "_PIECE_BYTES", 777)
    pieces = cut_into_pieces(find_files([str(path)]))
    data = path.read_bytes()
    assert len(pieces) > 5
    assert b"".join(data[piece.start : piece.stop] for piece in pieces) == data
    assert all(data[piece.stop - 1 : piece.stop] == b"\n" for piece in pieces)


def test_files_of_one_name_in_two_folders_keep_two_names(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("one\n")
    pieces = cut_into_pieces(find_files([str(tmp_path)]))
    assert [piece.name for piece in pieces] == ["x/a.txt", "y/a.txt"]


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 this is not parquet")
    with pytest.raises(InputError, match=r"a\.parquet: unreadable Parquet file"):
        cut_into_pieces(find_files([str(path)]))
