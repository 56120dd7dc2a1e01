"""The traps: a secret in a repr, a live mode without credentials, a secrets file that others may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmup_pipeline.settings import Settings, SettingsError


def settings(root: Path, **variables: str) -> Settings:
    return Settings.from_environment(root, environ=variables)


def test_with_no_variable_set_everything_is_embedded_and_simulated(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.is_simulated
    assert found.home == tmp_path / ".dagster"
    assert str(found.home) in found.database_url
    assert found.simulator_state.is_relative_to(found.home)


def test_the_env_file_in_the_root_wins_over_exported_values(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WARMUP_POLICY=conservative\n")
    assert settings(tmp_path, WARMUP_POLICY="default").policy == "conservative"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WARMUP_GATEWAY_MODE": "maybe"}, "WARMUP_GATEWAY_MODE"),
        ({"WARMUP_GATEWAY_MODE": "live"}, "EVOLUTION_API_URL"),
        ({"WARMUP_DATABASE_URL": "mysql://h/d"}, "WARMUP_DATABASE_URL"),
        ({"WARMUP_DATABASE_URL": "what is this"}, "WARMUP_DATABASE_URL"),
        ({"EVOLUTION_API_URL": "not-a-url"}, "EVOLUTION_API_URL"),
        ({"WARMUP_SECRETS_FILE": "nowhere.yaml"}, "WARMUP_SECRETS_FILE"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        settings(tmp_path, **variables)
    assert len(str(refused.value).splitlines()) == 1


def test_a_secrets_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("zapi: {INSTANCE: the-token}\n")
    secrets.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        settings(tmp_path, WARMUP_SECRETS_FILE=str(secrets))
    secrets.chmod(0o600)
    found = settings(tmp_path, WARMUP_SECRETS_FILE=str(secrets))
    assert found.zapi_tokens == {"INSTANCE": "the-token"}
    assert "the-token" not in repr(found)
    assert "the-token" in set(found.secrets())
