"""Boxes on disk: what is in them survives, whose run goes on is left alone."""

import json

import pytest

from themisto.tracking.outbox import BoxLabel, Outbox

LABEL = BoxLabel(key="http://a#g", run_id="r1", experiment_id="1")


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path / "outbox")


def test_calls_come_back_in_order(outbox):
    box = outbox.begin(LABEL)
    assert box.empty
    for number in range(3):
        box.keep({"n": number})
    assert [call["n"] for call in box.calls()] == [0, 1, 2]


def test_a_line_that_the_power_cut_short_is_left_out(outbox):
    box = outbox.begin(LABEL)
    box.keep({"n": 1})
    with (box.folder / "calls.jsonl").open("a") as out:
        out.write('{"n": 2')
    assert [call["n"] for call in box.calls()] == [1]


def test_files_and_folders_are_copied_with_their_call(outbox, tmp_path):
    box = outbox.begin(LABEL)
    (tmp_path / "a.txt").write_text("first")
    box.keep_file(tmp_path / "a.txt", {"path": None})
    (tmp_path / "a.txt").write_text("second")
    box.keep_file(tmp_path / "a.txt", {"path": "sub"})
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("flavors")
    box.keep_folder(tmp_path / "m", {"name": "model"})
    calls = list(box.calls())
    assert [(box.folder / call["file"]).read_text() for call in calls[:2]] == ["first", "second"]
    assert (box.folder / calls[2]["file"] / "MLmodel").read_text() == "flavors"


def test_only_boxes_whose_run_is_over_are_waiting(outbox):
    box = outbox.begin(LABEL)
    assert list(outbox.waiting(LABEL.key)) == []
    box.release()
    found = list(outbox.waiting(LABEL.key))
    assert [b.label for b in found] == [LABEL]
    found[0].release()
    assert list(outbox.waiting("http://other#g")) == []


def test_a_discarded_box_is_gone_and_a_foreign_folder_is_ignored(outbox):
    box = outbox.begin(LABEL)
    box.discard()
    assert not box.folder.exists()
    (outbox.root / "stray").mkdir(parents=True)
    (outbox.root / "broken").mkdir()
    (outbox.root / "broken" / "box.json").write_text(json.dumps({"key": 1}))
    assert list(outbox.waiting(LABEL.key)) == []
