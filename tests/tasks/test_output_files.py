"""What a results folder can hold: links, pipes, copies; tables, texts and images that are none."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from validation import SUMMARY, Place, check, make_task, plot, png

from helpers.tasks.definitions import Task
from helpers.tasks.judging.pickles import BadFile
from helpers.tasks.judging.results import MOST_ENTRIES, Results


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def link(results: Path, private: Path) -> None:
    (results / "submission.csv").symlink_to(private / "answers.csv")


def linked_link(results: Path, private: Path) -> None:
    (results / "x").symlink_to(private / "answers.csv")
    (results / "submission.csv").symlink_to("x")


def hard_link(results: Path, private: Path) -> None:
    os.link(private / "answers.csv", results / "submission.csv")


def pipe(results: Path, private: Path) -> None:
    os.mkfifo(results / "submission.csv")


def folder(results: Path, private: Path) -> None:
    (results / "submission.csv").mkdir()
    shutil.copy(private / "answers.csv", results / "submission.csv")


def own_socket(results: Path, private: Path) -> None:
    here = os.getcwd()
    os.chdir(results)  # the path of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("submission.csv")
    os.chdir(here)


def device(results: Path, private: Path) -> None:
    (results / "submission.csv").symlink_to("/dev/zero")


def sparse(results: Path, private: Path) -> None:
    shutil.copy(private / "answers.csv", results / "submission.csv")
    os.truncate(results / "submission.csv", 50 * 2**30)


UNREADABLE = {
    link: "is a link",
    linked_link: "is a link",
    hard_link: "is a hard link to hidden data",
    pipe: "is not a regular file",
    folder: "is not a regular file",
    own_socket: "is not a regular file",
    device: "is a link",
    sparse: "more than the",
}


@pytest.mark.parametrize("make", UNREADABLE)
@pytest.mark.timeout(20)
def test_what_is_no_plain_file_counts_as_missing(place: Place, make: Callable[[Path, Path], None]) -> None:
    task = place.prepare(make_task(min_accuracy=0.1, required_outputs=["submission.csv"]))
    make(place.results, place.data / "toy" / "prepared" / "private")
    verdict = place.judge(task)
    assert UNREADABLE[make] in verdict["feedback"][0]
    assert verdict["scores"] == {"skill": 0.0} and verdict["output_check"]["files_missing"] == ["submission.csv"]
    assert not any(verdict["criteria_met"].values())


@pytest.mark.timeout(20)
def test_a_file_replaced_while_it_is_opened_is_not_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was a plain file when it was looked at is a link, or a pipe, when it is opened."""
    honest, wanted = os.stat, place.write("a.txt", SUMMARY)
    (place.results / "hidden").mkdir()
    secret, elsewhere = place.write("hidden/secret.txt", SUMMARY), place.write("elsewhere.txt", SUMMARY)
    replacements: list[Callable[[], object]] = [
        lambda: wanted.symlink_to(elsewhere),
        lambda: os.mkfifo(wanted),
        lambda: os.link(secret, wanted),
    ]
    for replace in replacements:

        def looked_at(path: Any, *args: Any, _replace: Callable[[], object] = replace, **kwargs: Any) -> os.stat_result:
            info = honest(path, *args, **kwargs)
            if path == "a.txt":
                wanted.unlink()
                _replace()
            return info

        with Results(place.results, place.results / "hidden") as results:
            monkeypatch.setattr(os, "stat", looked_at)
            with pytest.raises(BadFile):
                results.open("a.txt")
            monkeypatch.undo()
        wanted.unlink()
        wanted.write_text(SUMMARY)


def test_nothing_behind_a_linked_folder_is_seen(place: Place, tmp_path: Path) -> None:
    plot(tmp_path / "p.png", 1)
    (place.results / "plots").mkdir()
    plot(place.results / "plots" / "b.png", 2)
    (place.results / "more").symlink_to(tmp_path)
    deep = place.results / "a/b/c/d/e"
    deep.mkdir(parents=True)
    plot(deep / "deep.png", 3)
    with Results(place.results) as results:
        assert results.names() == ["more", "plots/b.png"]
        for name in ("more/p.png", "../p.png", "none/p.png", "plots"):
            with pytest.raises(BadFile):
                results.open(name)
    for name in os.listdir(place.results / "plots"):
        os.unlink(place.results / "plots" / name)
    os.rmdir(place.results / "plots")
    with Results(place.results) as results:
        (place.results / "plots").symlink_to(tmp_path)
        with pytest.raises(BadFile):
            results.open("plots/p.png")


@pytest.mark.timeout(30)
def test_a_folder_of_too_many_files_is_not_read_to_its_end(place: Place) -> None:
    (place.results / "more").mkdir()
    for number in range(MOST_ENTRIES + 50):
        place.write(f"more/{number}.dat" if number % 2 else f"{number}.dat", "x")
    task = place.prepare(make_task(min_accuracy=0.5, required_outputs=["submission.csv"]))
    place.submit()
    assert place.judge(task)["success"]
    with Results(place.results) as results:
        assert len(results.names()) == MOST_ENTRIES


@pytest.mark.timeout(30)
def test_a_maze_of_folders_is_not_walked_to_its_end(place: Place) -> None:
    for one in range(40):
        for other in range(40):
            (place.results / f"{one:02d}" / f"{other:02d}").mkdir(parents=True)
    entered = []
    with Results(place.results) as results:
        results._inside, honest = lambda parts: entered.append(parts) or honest(parts), results._inside
        assert results.names() == []
    assert len(entered) == MOST_ENTRIES


def test_no_descriptor_stays_open(place: Place) -> None:
    task = place.prepare(make_task(min_accuracy=0.5, required_outputs=["submission.csv", "a.txt", "*.png", "model.*"]))
    place.submit()
    for name in ("a.txt", "b.png", "model.npz", "model.pkl", "model.pth"):
        place.write(name, "junk")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        place.judge(task)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_names_that_an_agent_chose_are_safe_to_print(place: Place) -> None:
    task = make_task(required_outputs=["*.dat"]).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    path = os.fsencode(place.results) + b"/\x1b[31m\xff\n\xc3\xa4.dat"
    with open(path, "wb") as file:
        file.write(b"content")
    verdict = place.judge(task)
    assert verdict["output_check"]["files_found"] == ["\\x1b[31m\\udcff\\nä.dat"]
    with open(path, "wb") as file:
        file.write(b"")
    assert place.judge(task)["feedback"][0] == "\\x1b[31m\\udcff\\nä.dat: is empty"


# kinds of files


BAD_FILES = [
    ("a.csv", "a,b\n", "has no rows"),
    ("a.csv", "a,b\n1,2\n3\n", "row 2 has 1 fields, the header 2"),
    ("a.csv", "a,b\n1,1\n1,1\n", "holds the same"),
    ("a.csv", b"\xff\xfea", "UTF-8"),
    ("a.csv", "a,b\n1," + "x" * 200_000 + "\n", "field larger"),
    ("a.json", "{", "is not valid JSON"),
    ("a.json", "[" * 200_000, "is not valid JSON"),
    ("a.json", "{}", "holds nothing"),
    ("a.json", '{"a": [null, true, "", {"b": []}]}', "holds nothing"),
    ("a.json", '{"a": [NaN, Infinity]}', "holds nothing"),
    ("a.json", "3", "holds neither"),
    ("a.json", '"text"', "holds neither"),
    ("training_log.json", '{"epochs": 5, "accuracy": 0.99}', "fewer than 3"),
    ("training_log.json", '{"loss": [0.5, 0.5, 0.5, 0.5]}', "fewer than 3"),
    ("a.txt", "done", "has 1 different words"),
    ("a.txt", "accuracy 0.9 " * 500, "has 1 different words"),
    ("a.txt", b"\x89PNG" + os.urandom(500), "is not text in UTF-8"),
    ("a.txt", SUMMARY + "\0", "NUL"),
    ("a.txt", "".join(letter for letter in SUMMARY if not letter.isdigit()), "names no figure"),
    ("a.md", " \n\t" * 1000, "has 0 different words"),
    ("a.dat", "\0" * 1000, "one byte over and over"),
    ("a.png", "", "can't be read as .png"),
    ("a.png", SUMMARY, "can't be read as .png"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES)
def test_files_are_refused_for_what_they_are(name: str, content: bytes | str, words: str) -> None:
    with pytest.raises(BadFile, match=words.replace("(", r"\(")):
        check(name, content)


GOOD_FILES = [
    ("a.csv", "a\n1\n"),
    ("a.csv", '\ufeffa,b\r\n1,"x\n,y"\r\n'),
    ("a.json", '{"a": 1}'),
    ("a.json", '[{"a": {"b": "text"}}]'),
    ("a.json", '{"a": ' + "9" * 100_000 + ', "b": 2}'),
    ("training_log.json", '{"loss": [0.5, 0.4, 0.3]}'),
    ("a.txt", "\ufeff" + SUMMARY),
    ("a.md", SUMMARY.replace("model", "модель")),
    ("a.dat", b"\0\1"),
]


@pytest.mark.parametrize(("name", "content"), GOOD_FILES)
def test_sound_files_are_accepted(name: str, content: bytes | str) -> None:
    check(name, content)


def test_deep_and_long_json_is_quick() -> None:
    started = time.monotonic()
    for content in (
        '{"a":' * 300 + "1" + "}" * 300,
        "[" * 300 + "]" * 300,
        '{"a": [' + "9" * 4_000_000 + "]}",
        "[1," * 10**5,
    ):
        try:
            check("a.json", content)
        except BadFile:
            pass
    assert time.monotonic() - started < 5


def test_a_text_is_about_the_task_in_words_of_its_own() -> None:
    known = "Predict the target of a table. " + " ".join(
        f"Instruction {n} says quite a lot about features." for n in range(9)
    )
    known += " Train a model with every row, look at accuracy and predictions, then write a submission and a summary to a file now 1."
    with pytest.raises(BadFile, match="repeats the task's own description"):
        check("a.md", known, known)
    with pytest.raises(BadFile, match="repeats the task's own description"):
        check("a.md", "My Report 2. " + known.upper(), known)
    lorem = "Lorem ipsum dolor sit amet 1 consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna"
    with pytest.raises(BadFile, match="isn't about the task"):
        check("a.md", lorem + " aliqua enim minim veniam quis nostrud", known)
    check("a.md", SUMMARY, known)


def test_copies_count_once(place: Place) -> None:
    task = place.prepare(
        make_task(min_accuracy=0.5, required_outputs=["submission.csv", "a.txt", "b.txt", "c.csv", "d.json"])
    )
    place.submit()
    place.write("a.txt", SUMMARY)
    place.write("b.txt", "  " + SUMMARY.replace("\n", " ").upper())
    shutil.copy(place.public / "train.csv", place.results / "c.csv")
    place.write("d.json", '{"a": 1}')
    verdict = place.judge(task)
    assert verdict["output_check"]["files_missing"] == ["b.txt", "c.csv"]
    assert "b.txt: says the same as a.txt" in verdict["feedback"]
    assert "c.csv: is a copy of the task's train.csv" in verdict["feedback"]
    shutil.copy(place.results / "submission.csv", place.results / "c.csv")
    assert "c.csv: is a copy of submission.csv" in place.judge(task)["feedback"]


def test_one_file_does_not_stand_for_two(place: Place) -> None:
    task = make_task(required_outputs=["*.txt", "a.txt", "?.*"]).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    place.write("a.txt", SUMMARY)
    verdict = place.judge(task)
    assert verdict["output_check"]["files_found"] == ["a.txt"]
    assert verdict["output_check"]["files_missing"] == ["*.txt", "?.*"]
    assert verdict["feedback"][:2] == ["*.txt: no other file matches it", "?.*: no other file matches it"]


def picture(
    draw: Callable[[Any], object], size: tuple[int, int] = (320, 240), mode: str = "RGB", colour: Any = "white"
) -> bytes:
    image, buffer = Image.new(mode, size, colour), io.BytesIO()
    draw(image)
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def noise(image: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*image.size[::-1], 3), dtype=np.uint8)
    image.paste(Image.fromarray(values))


def dots(image: Any) -> None:
    for number in range(200):
        image.putpixel((number * 37 % 320, number * 23 % 240), (number % 5 * 60, 0, 0))


def hidden_plot(image: Any) -> None:
    image.paste(Image.open(io.BytesIO(png())).convert("RGBA"))
    image.putalpha(0)


BAD_IMAGES = {
    "white": (lambda: picture(lambda image: None), "is blank"),
    "1 pixel": (lambda: picture(lambda image: None, (1, 1)), "1 x 1 pixels"),
    "narrow": (lambda: picture(noise, (2000, 63)), "2000 x 63 pixels"),
    "two pixels": (
        lambda: picture(lambda i: (i.putpixel((1, 1), (255, 0, 0)), i.putpixel((300, 200), (0, 0, 255)))),
        "is blank",
    ),
    "two halves": (lambda: picture(lambda i: i.paste("black", (0, 0, 160, 240))), "is blank"),
    "a corner": (lambda: picture(lambda i: i.paste(Image.open(io.BytesIO(png())).resize((40, 40)))), "is blank"),
    "nearly one colour": (lambda: picture(lambda i: i.paste((254, 255, 254), (0, 0, 160, 240))), "is blank"),
    "scattered dots": (lambda: picture(dots), "is blank"),
    "transparent": (lambda: picture(hidden_plot, mode="RGBA"), "is blank"),
    "noise": (lambda: picture(noise), "is noise"),
    "truncated": (lambda: png()[:-200], "can't be read as .png"),
    "header only": (lambda: png()[:40], "can't be read as .png"),
    "a JPEG": (lambda: png(kind="JPEG"), "can't be read as .png"),
    "a GIF": (lambda: png(kind="GIF"), "can't be read as .png"),
    "broken data": (lambda: png()[:200] + bytes(100) + png()[300:], "can't be read as .png"),
    "bomb": (lambda: picture(lambda image: None, (7000, 7000), "1", 1), "more than the"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_that_show_nothing_are_refused(name: str) -> None:
    make, words = BAD_IMAGES[name]
    with pytest.raises(BadFile, match=words):
        check("a.png", make())


def test_a_bomb_of_pixels_is_not_unpacked() -> None:
    head = b"\x89PNG\r\n\x1a\n"
    size = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)

    chunk = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    with pytest.raises(BadFile):
        check("a.png", head + chunk + png()[33:])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_plots_are_accepted(mode: str) -> None:
    assert check("a.png", png(mode=mode)).shape == (32, 32)
    check("a.jpg", png(kind="JPEG"))
    check("a.JPEG", png(kind="JPEG"))
    check("a.png", png(size=(2000, 1500)))


def test_an_image_of_16_bits_a_pixel_is_seen() -> None:
    levels = np.add.outer(np.arange(240) // 30 * 8000, np.arange(320) // 40 % 3 * 2000).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    check("a.png", buffer.getvalue())


def reencoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def touched(image: Image.Image) -> Image.Image:
    image.putpixel((5, 5), (1, 2, 3))
    return image


TWINS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": lambda image: image,
    "a pixel": touched,
    "larger": lambda image: image.resize((640, 480)),
    "turned": lambda image: image.rotate(180),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "paler": lambda image: image.point(lambda value: min(value + 5, 255)),
}


@pytest.mark.parametrize("name", TWINS)
def test_an_image_counts_once(place: Place, name: str) -> None:
    task = make_task(required_visualizations=2, required_outputs=["a.png", "b.png"]).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    place.write("a.png", png(1))
    place.write("b.png", reencoded(TWINS[name](Image.open(io.BytesIO(png(1))))))
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"required_outputs": False, "required_visualizations": False}
    assert "b.png: shows the same as a.png" in verdict["feedback"]
    place.write("b.png", png(2))
    assert place.judge(task)["success"]


def test_visualizations_are_counted_in_folders_too(place: Place) -> None:
    task = make_task(required_visualizations=4).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    (place.results / "plots").mkdir()
    for number, name in enumerate(["a.png", "b.jpg", "plots/c.jpeg"]):
        plot(place.results / name, number, kind="PNG" if name.endswith("png") else "JPEG")
    place.write("blank.png", picture(lambda image: None))
    place.write("text.png", SUMMARY)
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"required_visualizations": False}
    assert "blank.png: is blank, or nearly so" in verdict["feedback"]
    plot(place.results / "plots" / "d.png", 9)
    assert place.judge(task)["success"]
