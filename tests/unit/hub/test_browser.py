"""The browser's reading of a page."""

from themisto_hub.browser import Form, _said


def test_a_form_is_read_with_its_fields_and_choices():
    form = Form(
        '<form action="/go?a=1&amp;b=2" method="post"><input type="hidden" name="xsrf" value="x&quot;y">'
        '<input type="radio" name="profile" value="a"><input type="radio" name="profile" value="b" checked>'
        '<input name="login"></form><form action="/other"></form>'
    )
    assert form.action == "/go?a=1&b=2"
    assert form.fields == {"xsrf": 'x"y', "profile": "b", "login": ""}
    assert form.choices == {"profile": ["a", "b"]}


def test_what_a_page_says_went_wrong_is_found():
    assert _said('<p class="spawn-error-msg alert alert-danger">Error: it&#39;s\n <b>no</b></p>') == "Error: it's no"
    assert _said('<p class="error" role="alert">Name or password is wrong.</p>') == "Name or password is wrong."
    assert _said("<p>fine</p>") == ""
