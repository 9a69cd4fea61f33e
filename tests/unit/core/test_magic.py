"""The common plumbing of magics: parsing, bodies, errors as a person sees them."""

import importlib

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import themisto
from themisto.errors import Invalid, NotFound
from themisto.magic import _VERBS, LineParser, VerbMagics, key_values, variable
from themisto.settings import Settings
from themisto.workbench import Workbench


@pytest.fixture
def shell():
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_unknown_variable_names_the_nearest():
    with pytest.raises(NotFound, match="X_valid"):
        variable({"X_valid": 1}, "X_vaild")


def test_pair_without_equals_sign_is_refused():
    with pytest.raises(Invalid, match="KEY=VALUE"):
        key_values(["lr"])


def test_value_may_hold_an_equals_sign():
    assert key_values(["q=a=b"]) == {"q": "a=b"}


def verbs():
    parser = LineParser("%x")
    push = parser.add_subparsers(required=True, metavar="push | list").add_parser("push")
    push.add_argument("view", metavar="VIEW")
    push.add_argument("--fast", action="store_true")
    push.add_argument("--as")
    return parser


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", r"%x needs a verb\. Write %x push \| list"),
        ("push", r"%x push needs VIEW\. Write %x push \[--fast\]"),
        ("psh", r"%x knows no 'psh'\. Did you mean push\?"),
        ("push --fst", r"%x push has no option --fst\. Did you mean --fast\?"),
        ("push v --nope=1", r"%x push has no option --nope\. Write %x push"),
        ("push v w", r"%x push takes no 'w'\. Write %x push"),
        ("push v --as", r"%x push: argument --as: expected one argument\. Write"),
    ],
)
def test_a_line_that_is_wrong_is_told_by_the_verb_it_was_said_to(line, says):
    with pytest.raises(UsageError, match=says):
        verbs().parse_line(line)


def test_options_may_be_shortened_and_words_after_two_dashes_are_none():
    assert verbs().parse_line("push v --fa").fast
    assert verbs().parse_line("push -- --fst").view == "--fst"


def test_unclosed_quote_is_a_usage_error():
    with pytest.raises(UsageError, match="quote"):
        LineParser("%x").parse_line("'abc")


def test_body_runs_in_the_notebook_and_gives_its_last_value(shell):
    magics = VerbMagics(shell)
    assert magics.run_body("a = 2\na * 21") == 42
    assert shell.user_ns["a"] == 2
    assert magics.run_body("b = 1") is None


def test_shell_text_in_an_argument_stays_text(shell):
    parser = LineParser("%x")
    parser.add_argument("name")
    assert parser.parse_line("'a; $(rm -rf /) `b`'").name == "a; $(rm -rf /) `b`"


def test_our_errors_reach_a_person_without_traceback(shell):
    parser = LineParser("%x")

    def refuse(magics, args, cell):
        raise NotFound("No endpoint 'x'.", "See %deploy list.")

    parser.set_defaults(handler=refuse)
    with pytest.raises(UsageError, match=r"No endpoint 'x'\. See %deploy list\."):
        VerbMagics(shell).answer(parser, "")


def test_without_a_workbench_status_says_what_works(shell, monkeypatch, tmp_path):
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    wb = Workbench(Settings(home=tmp_path))
    from themisto.about import About

    assert "track" in repr(About(wb).status())


def test_deploy_without_a_workbench_names_the_missing_setting(shell, monkeypatch):
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    shell.run_line_magic("load_ext", "themisto")
    result = shell.run_cell("%themisto profiles")
    assert isinstance(result.error_in_exec, UsageError)
    assert "THEMISTO_URL" in str(result.error_in_exec)


@pytest.mark.parametrize("name", ["track", "features", "step", "pipeline", "deploy", "schedule"])
def test_a_question_mark_shows_all_that_a_magic_takes(shell, name):
    themisto.load_ipython_extension(shell)
    told = shell.object_inspect_text(f"%{name}")
    magics = importlib.import_module(_VERBS[name]).MAGICS(shell)
    for parser in magics.parsers[name]:
        for verb, its in parser.verbs().items():
            assert f"%{name} {verb}" in told
            assert all(option in told for option in its.options())
        assert all(option in told for option in parser.options())


def completed(shell, line: str) -> list[tuple[str, int]]:
    """What Tab offers, and from which column on it replaces."""
    with provisionalcompleter():
        return [(found.text, found.start) for found in shell.Completer.completions(line, len(line))]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%features er", [("erase", 10)]),
        ("x = 1\n%features quar", [("quarantine", 16)]),
        ("%features erase customer id=1 --", [("--yes", 30)]),
        ("%features get scoring --a", [("--as-of", 22)]),
        ("%%features train --kn", [("--known", 17)]),
        ("%deploy resu", [("resume", 8)]),
        ("%deploy pause credit --", [("--reason", 21)]),
        ("%track compa", [("compare", 7)]),
        ("%features show --", [("--help", 15)]),
        ("%features erase ", [("--help", 16)]),
    ],
)
def test_tab_offers_what_may_come_next_and_no_word_of_python(shell, monkeypatch, tmp_path, line, offered):
    monkeypatch.setattr("themisto.magic.workbench", lambda: Workbench(Settings(url=None, home=tmp_path)))
    themisto.load_ipython_extension(shell)
    assert completed(shell, line) == offered


def test_tab_elsewhere_is_left_to_ipython(shell):
    themisto.load_ipython_extension(shell)
    assert ("print", 0) in completed(shell, "prin")
