from openk2.jobs.funnel import Funnel


def test_counts_by_stage_and_reason():
    funnel = Funnel()
    for stage in ("gates", "gates", "judge"):
        funnel.keep(stage)
    for reason in ("b", "a", "a"):
        funnel.reject("judge", reason)
    assert funnel.to_json() == {
        "gates": {"kept": 2, "rejected": 0, "reasons": {}},
        "judge": {"kept": 1, "rejected": 3, "reasons": {"a": 2, "b": 1}},
    }
