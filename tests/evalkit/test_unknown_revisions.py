"""Scores and caches that evalkit 0.1.0 made: they open, are named, stay apart, and are recomputed on request."""

from dataclasses import replace

import numpy as np

from evalkit.cli.score_output import print_scores as show
from evalkit.metric_spec.signature import displayed, preset_of, revision_is_known
from evalkit.run.feature_cache import FILE_NAME, FeatureCache
from evalkit.run.score_table import read_scores, write_scores
from evalkit.scoring.result import ScoringResult
from evalkit.scoring.run_scorer import score_run
from evalkit.scoring.summary import summarise

OLD = "ev0.1.0"


def as_of_010(signature: str) -> str:
    """Return a signature with the ending it had in evalkit 0.1.0."""
    return f"{signature.rpartition('|')[0]}|{OLD}"


def test_rows_of_010_open_are_named_and_are_replaced_when_asked_for(run, weights, capsys):
    new = score_run(run, ["clip_t", "piqe"], weights=weights).rows
    old = [replace(row, signature=as_of_010(row.signature), value=row.value + 1) for row in new]
    write_scores(run, old)
    assert read_scores(run) == old
    assert not any(revision_is_known(row.signature) for row in old)
    assert {preset_of(row.signature) for row in old} == {"dreambooth"}
    show(ScoringResult(None, old), as_json=False)
    assert f"|revision unknown ({OLD})" in capsys.readouterr().out

    again = score_run(run, ["piqe"], weights=weights)
    assert "piqe: earlier scores of another recipe were replaced" in again.notes
    assert [row for row in again.rows if row.metric == "piqe"] == [row for row in new if row.metric == "piqe"]
    assert [row for row in again.rows if row.metric == "clip_t"] == [row for row in old if row.metric == "clip_t"]


def test_an_unknown_revision_never_shares_a_mean_with_a_known_one(run, weights):
    new = score_run(run, ["piqe"], weights=weights).rows
    old = [replace(row, signature=as_of_010(row.signature)) for row in new]
    means = summarise([*new, *old])
    assert len(means) == 2 * len({row.arm for row in new})
    assert {revision_is_known(mean.signature) for mean in means} == {True, False}
    assert displayed(new[0].signature) == new[0].signature


def test_features_in_a_cache_of_010_are_kept_and_not_used(run, weights):
    truth = {(row.case, row.arm, row.seed): row.value for row in score_run(run, ["piqe"], weights=weights).rows}
    (run / "scores.parquet").unlink()
    keys = [row[0] for row in _rows(run, "SELECT DISTINCT recipe FROM features")]
    old = [key.rpartition("|")[0] + "|pixels1" for key in keys]
    pictures = [row[0] for row in _rows(run, "SELECT DISTINCT key FROM features")]
    (run / FILE_NAME).unlink()
    with FeatureCache(run / FILE_NAME) as cache:
        for key in old:
            cache.put(key, {picture: np.array([99.0], dtype=np.float32) for picture in pictures})
    result = score_run(run, ["piqe"], weights=weights)
    assert {(row.case, row.arm, row.seed): row.value for row in result.rows} == truth
    assert result.notes == []
    with FeatureCache(run / FILE_NAME) as cache:
        assert all(len(cache.get(key, pictures)) == len(pictures) for key in old)


def _rows(run, statement):
    import sqlite3

    with sqlite3.connect(run / FILE_NAME) as connection:
        return connection.execute(statement).fetchall()
