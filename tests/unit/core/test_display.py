"""What is shown is escaped in HTML and plain in a terminal."""

from themisto.display import Card, Table


def test_text_is_data_in_html():
    card = Card("<script>", {"<b>": "<img src=x>"}, "<i>")
    assert "<script>" not in card._repr_html_()
    assert "&lt;script&gt;" in card._repr_html_()
    table = Table(["<a>"], [["<b>"]], title="<c>")
    assert "<a>" not in table._repr_html_()
    assert "<b>" not in table._repr_html_().replace("<b>&lt;c&gt;</b>", "")


def test_plain_text_is_aligned():
    assert repr(Table(["a", "bb"], [["xxx", 1]])) == "a    bb\nxxx  1"
    assert repr(Table(["a"], [], title="t", empty="none yet")) == "t: none yet"
