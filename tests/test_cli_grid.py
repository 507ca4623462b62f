"""What `carbon-nas providers check` says, through the real command line."""

import json

from daemon_process import cli

from carbon_nas.errors import EX_CONFIG


def test_a_provider_that_is_ready_is_shown_with_what_it_counts():
    done = cli("providers", "check", "neso", "--zone", "GB")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["provider"], found["zone"], found["outcome"]) == ("neso", "GB", "ok")
    assert (found["signal"], found["basis"], found["licence"]) == ("average", "direct", "CC BY 4.0")


def test_a_missing_key_and_a_wrong_zone_are_refused(forked_cli):
    for name, zone, said in (("entsoe", "FR", "CARBON_NAS_ENTSOE_TOKEN"), ("neso", "FR", "not 'FR'")):
        done = forked_cli("providers", "check", name, "--zone", zone)
        assert (done.returncode, done.stdout) == (EX_CONFIG, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
