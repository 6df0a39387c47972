"""The filter grammar, and that the predicate and the SQL say the same."""

import operator
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model.filter import MAX_COMPARISONS, MAX_DEPTH, And, Not, Or, parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypothesis import given, settings
from hypothesis import strategies as st

STATES = ("queued", "running", "failed")


@dataclass
class Row:
    id: int = 0
    task: str | None = "export"
    state: str = "queued"
    size: float | None = 0.0
    time: float | None = 0.0
    labels: dict = field(default_factory=dict)


table = sa.Table(
    "rows", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("task", sa.Text),
    sa.Column("state", sa.Text), sa.Column("size", sa.Float), sa.Column("time", sa.Float), sa.Column("labels", sa.JSON),
)  # fmt: skip
FIELDS = {
    "task": Field(Kind.TEXT, operator.attrgetter("task"), table.c.task),
    "state": Field(Kind.ENUM, operator.attrgetter("state"), table.c.state, STATES),
    "size": Field(Kind.NUMBER, operator.attrgetter("size"), table.c.size),
    "create_time": Field(Kind.TIME, operator.attrgetter("time"), table.c.time),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}


def passes(text: str, **row) -> bool:
    return parse(text).predicate(FIELDS)(Row(**row))


def test_or_binds_tighter_than_and():
    assert isinstance(parse("state = queued AND task = a OR task = b").root, And)
    assert passes("state = queued AND task = a OR task = b", task="b")
    assert not passes("state = queued AND task = a OR task = b", task="b", state="failed")


def test_terms_side_by_side_are_joined_by_and():
    assert passes("state = FAILED labels.env = lab", state="failed", labels={"env": "lab"})
    assert not passes("state = FAILED labels.env = lab", state="failed")


def test_not_and_minus_negate():
    assert isinstance(parse("-task = a").root, Not)
    assert passes("NOT (task = a OR task = b)", task="c")


def test_parentheses_override_precedence():
    assert isinstance(parse("(state = queued AND task = a) OR task = b").root, Or)


def test_an_enum_is_known_by_each_of_its_spellings():
    for spelling in ("FAILED", "failed", '"FAILED"', "JOB_STATE_FAILED"):
        assert passes(f"state = {spelling}", state="failed")


def test_a_trailing_star_matches_a_prefix():
    assert passes('task = "exp*"', task="export")
    assert not passes('task != "exp*"', task="export")


def test_has_asks_for_a_key_or_a_part():
    assert passes("labels:env", labels={"env": ""})
    assert passes("labels.env:*", labels={"env": ""})
    assert not passes("labels:env")
    assert passes("task:por", task="export")


def test_a_label_key_with_odd_characters_is_quoted():
    assert passes('labels."example.com/team" = "a\\"b"', labels={"example.com/team": 'a"b'})


def test_times_are_rfc_3339():
    assert passes('create_time > "1970-01-01T00:00:01Z"', time=2.0)
    assert passes("create_time <= 1970-01-01T01:00:01+01:00", time=1.0)


def test_a_missing_value_differs_from_everything():
    assert passes('labels.env != "lab"')
    assert not passes("size > -5", size=None)


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_the_empty_filter_passes_everything(text):
    assert passes(text)
    assert parse(text).sql(FIELDS) is None


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("state", 5), ("state =", 7), ("= x", 0), ("state = a )", 10), ("(state = queued", 15), ("task = 'a", 7),
        ("AND", 0), ("state = queued AND", 18), ("state = queued OR OR task = a", 18), ("labels. = x", 8), ("x ~ y", 2),
        ("(" * (MAX_DEPTH + 1), MAX_DEPTH),
    ],
)  # fmt: skip
def test_a_malformed_filter_says_where(text, position):
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.reason == "FILTER_INVALID"
    assert caught.value.metadata["position"] == str(position)
    assert caught.value.violations[0].field == "filter"


@pytest.mark.parametrize(
    "text",
    ["colour = red", "state = purple", "state < failed", "size = big", "size = nan", "create_time > yesterday",
     'create_time > "2026-01-01T00:00:00"', "labels = x", "labels.a.b = x", "task.name = x"],
)  # fmt: skip
def test_a_filter_that_does_not_fit_the_resource_is_refused_by_both(text):
    for compile_it in (parse(text).predicate, parse(text).sql):
        with pytest.raises(InvalidArgument, match="character 1"):
            compile_it(FIELDS)


def test_too_many_comparisons_are_refused():
    with pytest.raises(InvalidArgument, match=f"more than {MAX_COMPARISONS}"):
        parse(" ".join(["task = a"] * (MAX_COMPARISONS + 1)))


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused(text):
    try:
        assert parse(text).text == text
    except InvalidArgument as error:
        position = int(error.metadata["position"])
    else:
        position = 0
    assert 0 <= position <= len(text)


words = st.sampled_from(["a", "A", "ab", "abc", "b", "%", "_", "a%", ""])
comparisons = st.one_of(
    st.tuples(st.sampled_from(["task = ", "task != ", "task:", "task > ", "labels.k = ", "labels.k != "]), words).map(
        lambda t: f'{t[0]}"{t[1]}"'
    ),
    st.tuples(st.sampled_from(["task = ", "task != ", "labels.k = "]), words).map(lambda t: f'{t[0]}"{t[1]}*"'),
    st.tuples(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-2, 2)).map(
        lambda t: f"size {t[0]} {t[1]}"
    ),
    st.sampled_from(["state = FAILED", "state != queued", "labels:k", "labels.k:*", "size:*"]),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        inner.map(lambda f: f"NOT ({f})"), st.tuples(inner, st.sampled_from([" AND ", " OR ", " "]), inner).map("".join)
    ).map(lambda f: f"({f})"),
    max_leaves=6,
)
rows = st.builds(
    Row, task=st.none() | words, state=st.sampled_from(STATES), size=st.none() | st.integers(-2, 2).map(float),
    labels=st.dictionaries(st.just("k"), words),
)  # fmt: skip


@given(filters, st.lists(rows, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_predicate_and_sql_agree(text, found):
    for number, row in enumerate(found):
        row.id = number
    engine = sa.create_engine("sqlite://")
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [vars(row) for row in found])
        picked = set(connection.scalars(sa.select(table.c.id).where(parse(text).sql(FIELDS))))
    engine.dispose()
    assert picked == {row.id for row in found if parse(text).predicate(FIELDS)(row)}
