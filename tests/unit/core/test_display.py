"""What is shown is escaped in HTML and plain in a terminal."""

from datetime import datetime, timedelta, timezone

from themisto.display import Card, Table


def test_text_is_data_in_html():
    card = Card("<script>", {"<b>": "<img src=x>"}, "<i>")
    assert "<script>" not in card._repr_html_()
    assert "&lt;script&gt;" in card._repr_html_()
    table = Table(["<a>"], [["<b>"]], title="<c>")
    assert "<a>" not in table._repr_html_()
    assert "<b>" not in table._repr_html_().replace("<b>&lt;c&gt;</b>", "")


def test_a_moment_is_said_to_the_second_and_in_utc():
    moment = datetime(2024, 1, 1, 9, 30, 5, 123456, tzinfo=timezone(timedelta(hours=9)))
    assert "2024-01-01 00:30:05 UTC" in repr(Card("t", {"at": moment}))
    assert "2024-01-01 00:30:05 UTC</td>" in Table(["at"], [[moment]])._repr_html_()


def test_plain_text_is_aligned():
    assert repr(Table(["a", "bb"], [["xxx", 1]])) == "a    bb\nxxx  1"
    assert repr(Table(["a"], [], title="t", empty="none yet")) == "t: none yet"
