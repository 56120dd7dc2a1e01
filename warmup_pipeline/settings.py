"""What the environment says: modes, addresses, secrets and places, checked once.

Holds: :class:`Settings`, read from the environment and from a ``.env`` in the project's root, and the
place of the Dagster home. Add here: a variable of interface.md, "Environment". Do not add: anything
that opens a database, a socket or a policy (``assembly`` does that).

Source: interface.md, "Environment" and "The Dagster home".
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx
import yaml
from dotenv import dotenv_values
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from warmup_pipeline.gateways.credentials import ZAPI_BASE_URL, GatewaySettings
from warmup_pipeline.store.engine import StoreUrlError, parse_url

LIVE: Final = "live"
SIMULATED: Final = "simulated"
MODES: Final = (LIVE, SIMULATED)

INSTANCE_FILE: Final = "dagster.yaml"

UI_URL: Final = "http://127.0.0.1:3000"
"""Where `dagster dev` serves its UI unless told otherwise."""

_OTHERS_MAY_READ: Final = stat.S_IRWXG | stat.S_IRWXO


class SettingsError(ValueError):
    """The environment cannot be used; the text is one line that names the variable, never its value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, checked. Its ``repr`` shows no secret.

    Attributes:
        root: the project's root; relative paths start here.
        home: the Dagster home (the instance's root directory): history, the embedded database, the
            simulator's state.
        database_url: SQLAlchemy URL of the pool's database.
        dagster_database_url: URL of Dagster's own history, with ``deploy/postgres``.
        policy: a preset's name, or a policy file's path.
        mode: ``live`` or ``simulated``.
        evolution_url: base address of the Evolution server.
        evolution_key: its global key.
        zapi_base_url: base address of Z-API, ``None`` where the variable is not set.
        zapi_client_token: Z-API's account token.
        evolution_instance_keys: key by instance name, from the secrets file.
        zapi_tokens: token by instance id, from the secrets file.
        webhook_secret: what webhooks must bring.
        alert_webhook_url: where alerts are posted; such a URL is a secret.
        dialogues: the operator's own file of dialogues, which replaces the shipped one.
        media: the operator's own folder of pictures and audio notes, which replaces the shipped one.
        ui_url: base address of Dagster's UI, for links in alerts.
    """

    root: Path
    home: Path
    database_url: str = field(repr=False)
    policy: str
    mode: str
    dagster_database_url: str | None = field(default=None, repr=False)
    evolution_url: str | None = None
    evolution_key: str | None = field(default=None, repr=False)
    zapi_base_url: str | None = None
    zapi_client_token: str | None = field(default=None, repr=False)
    evolution_instance_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    zapi_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    alert_webhook_url: str | None = field(default=None, repr=False)
    dialogues: Path | None = None
    media: Path | None = None
    ui_url: str = UI_URL

    @classmethod
    def from_environment(cls, root: Path | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings; the root's ``.env`` wins over exported values, as with ``dagster dev``.

        Args:
            root: the project's root; found by :func:`project_root` unless given.
            environ: the exported variables; the process's own unless given.

        Raises:
            SettingsError: a value is missing or cannot be used.
        """
        root = (root or project_root()).resolve()
        values = _variables(root, os.environ if environ is None else environ)
        home = dagster_home(root, values)
        instance_keys, zapi_tokens = _secrets_file(root, values.get("WARMUP_SECRETS_FILE"))
        settings = cls(
            root=root,
            home=home,
            database_url=_database_url(values, home),
            dagster_database_url=_dagster_database_url(values),
            policy=_policy(root, values.get("WARMUP_POLICY") or "default"),
            mode=_mode(values),
            evolution_url=values.get("EVOLUTION_API_URL"),
            evolution_key=values.get("EVOLUTION_API_KEY"),
            zapi_base_url=values.get("ZAPI_BASE_URL"),
            zapi_client_token=values.get("ZAPI_CLIENT_TOKEN"),
            evolution_instance_keys=instance_keys,
            zapi_tokens=zapi_tokens,
            webhook_secret=values.get("WARMUP_WEBHOOK_SECRET"),
            alert_webhook_url=_web_address(values, "WARMUP_ALERT_WEBHOOK_URL"),
            dialogues=_own(root, values, "WARMUP_DIALOGUES"),
            media=_own(root, values, "WARMUP_MEDIA"),
            ui_url=(_web_address(values, "WARMUP_UI_URL") or UI_URL).rstrip("/"),
        )
        settings.live_gateways()
        if settings.mode == LIVE:
            settings.require_a_gateway()
        return settings

    @property
    def simulator_state(self) -> Path:
        """The SQLite file in which the simulator keeps its world."""
        return self.home / "simulator" / "state.db"

    @property
    def is_simulated(self) -> bool:
        """Whether the gateways are the simulator."""
        return self.mode == SIMULATED

    def live_gateways(self) -> GatewaySettings:
        """Return the gateways as the environment names them.

        Raises:
            SettingsError: an address or a secret cannot work.
        """
        try:
            return GatewaySettings(
                evolution_url=self.evolution_url,
                evolution_key=self.evolution_key,
                evolution_instance_keys=self.evolution_instance_keys,
                zapi_base_url=self.zapi_base_url or ZAPI_BASE_URL,
                zapi_client_token=self.zapi_client_token,
                zapi_tokens=self.zapi_tokens,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def require_a_gateway(self) -> None:
        """Refuse live mode without a gateway that could be used.

        Raises:
            SettingsError: nothing is set, or one half of a gateway's settings is missing.
        """
        keys = self.evolution_key or self.evolution_instance_keys
        if keys and not self.evolution_url:
            raise SettingsError(
                "EVOLUTION_API_URL is not set, but there is a key for it: set the server's address"
            )
        if self.evolution_url and not keys:
            raise SettingsError(
                "EVOLUTION_API_KEY is not set: live mode needs the Evolution server's global key, "
                "or keys per instance under evolution: in WARMUP_SECRETS_FILE"
            )
        if self.zapi_client_token and not self.zapi_tokens:
            raise SettingsError(
                "WARMUP_SECRETS_FILE has no token under zapi:, but ZAPI_CLIENT_TOKEN is set: "
                "add zapi: {INSTANCE_ID: TOKEN}"
            )
        if not self.evolution_url and not self.zapi_tokens:
            raise SettingsError(
                "EVOLUTION_API_URL is not set: live mode needs EVOLUTION_API_URL and EVOLUTION_API_KEY, "
                "or Z-API tokens in WARMUP_SECRETS_FILE; or set WARMUP_GATEWAY_MODE=simulated"
            )

    def secrets(self) -> Iterator[str]:
        """Yield every value that must never be shown (for the redactor)."""
        yield from self.live_gateways().secrets()
        for value in (self.webhook_secret, self.alert_webhook_url):
            if value:
                yield value
        for text in (self.database_url, self.dagster_database_url):
            url = make_url(text) if text else None
            # A password that is also the user's or the database's name hides nothing, and masking that
            # word everywhere would make every log unreadable.
            if url is not None and url.password and url.password not in (url.username, url.database):
                yield str(url.password)


def project_root(start: Path | None = None) -> Path:
    """Return the nearest folder, from ``start`` (the working directory) up, that holds ``dagster.yaml``.

    Where there is none, the folder this package is installed from if that is the project, else ``start``.
    """
    start = (start or Path.cwd()).resolve()
    source = Path(__file__).resolve().parent.parent
    for folder in (start, *start.parents, source):
        if (folder / INSTANCE_FILE).is_file():
            return folder
    return start


def adopt_dotenv(root: Path) -> None:
    """Put the root's ``.env`` into this process's environment, over exported values.

    For commands, before they open the Dagster instance: its ``env:`` values are read from there.
    """
    for name, value in _dotenv(root).items():
        os.environ[name] = value


def dagster_home(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the instance's root directory: what ``dagster.yaml`` says, else ``.dagster`` in the root.

    The file is the one of ``DAGSTER_HOME``, where that is set, else the root's own. A relative path in it
    counts from the root, which is the working directory of every process.
    """
    named = environ.get("DAGSTER_HOME")
    folder = Path(named).expanduser() if named else root
    try:
        instance = yaml.safe_load((folder / INSTANCE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        instance = None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise SettingsError(f"{INSTANCE_FILE} in the Dagster home cannot be read as YAML") from None
    base = (
        _at(instance, "local_artifact_storage", "config", "base_dir")
        or _at(instance, "storage", "custom", "config", "base_dir")
        or _at(instance, "storage", "sqlite", "base_dir")
    )
    if isinstance(base, dict):
        base = environ.get(str(base.get("env")))
    if isinstance(base, str) and base:
        return (root / Path(base).expanduser()).resolve()
    return folder.resolve() if named else root / ".dagster"


def is_loopback(url: str) -> bool:
    """Whether a web address names this machine's loopback."""
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _at(document: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def _dotenv(root: Path) -> dict[str, str]:
    try:
        found = dotenv_values(root / ".env")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(".env in the project's root cannot be read as UTF-8 text") from None
    return {name: value for name, value in found.items() if value is not None}


def _variables(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set to something."""
    return {name: value for name, value in {**environ, **_dotenv(root)}.items() if value.strip()}


def _mode(values: Mapping[str, str]) -> str:
    mode = values.get("WARMUP_GATEWAY_MODE", SIMULATED)
    if mode not in MODES:
        raise SettingsError(f"WARMUP_GATEWAY_MODE is {mode!r}; it must be one of: {', '.join(MODES)}")
    return mode


def _policy(root: Path, source: str) -> str:
    """Return a preset's name as it is, and a path so that it holds from any working directory."""
    path = root / Path(source).expanduser()
    return str(path) if path.is_file() else source


def _web_address(values: Mapping[str, str], name: str) -> str | None:
    """Return an http or https address; the refusal never shows it, for it may be a secret."""
    text = values.get(name)
    if text is None:
        return None
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        raise SettingsError(f"{name} is no web address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(f"{name} is no web address: it must begin with http:// or https://")
    return str(url)


def _own(root: Path, values: Mapping[str, str], variable: str) -> Path | None:
    """Return the path a variable names; whether it can be used is said by whoever reads it."""
    named = values.get(variable)
    return None if named is None else root / Path(named).expanduser()


def _database_url(values: Mapping[str, str], home: Path) -> str:
    url = values.get("WARMUP_DATABASE_URL")
    if url is None:
        return f"sqlite:///{home / 'warmup.db'}"
    try:
        parsed = parse_url(url)
    except StoreUrlError as error:
        raise SettingsError(str(error)) from None
    except ValueError:
        raise SettingsError("WARMUP_DATABASE_URL is no database URL: its port is not a number") from None
    if parsed.get_backend_name() == "sqlite" and (parsed.host or parsed.database in (None, "", ":memory:")):
        raise SettingsError(
            "WARMUP_DATABASE_URL names no file that would be kept; use sqlite:////absolute/path/file.db"
        )
    return url


def _dagster_database_url(values: Mapping[str, str]) -> str | None:
    url = values.get("WARMUP_DAGSTER_DATABASE_URL")
    if url is None:
        return None
    try:
        backend = make_url(url).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend != "postgresql":
        raise SettingsError(
            "WARMUP_DAGSTER_DATABASE_URL is no PostgreSQL URL; "
            "use postgresql+psycopg2://user:password@host/database"
        )
    return url


def _secrets_file(root: Path, named: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys by Evolution instance and the tokens by Z-API instance."""
    if named is None:
        return {}, {}
    path = root / Path(named).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError("WARMUP_SECRETS_FILE names a file that does not exist") from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("WARMUP_SECRETS_FILE names a file that cannot be read as UTF-8 text") from None
    if mode & _OTHERS_MAY_READ:
        raise SettingsError(
            f"WARMUP_SECRETS_FILE has mode {stat.S_IMODE(mode):03o}, so others may read it: chmod 600 the file"
        )
    try:
        # Every value as the text it is: a token of digits must not become a number.
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 (BaseLoader makes strings only)
    except yaml.YAMLError:
        # The parser's own words would show a line of the file.
        raise SettingsError("WARMUP_SECRETS_FILE is no valid YAML") from None
    if not isinstance(document, dict) or not set(document) <= {"zapi", "evolution"}:
        raise SettingsError(
            "WARMUP_SECRETS_FILE must hold zapi: {INSTANCE_ID: TOKEN} and evolution: {INSTANCE_NAME: KEY}, "
            "and nothing else"
        )
    return _tokens(document, "evolution"), _tokens(document, "zapi")


def _tokens(document: Mapping[str, Any], provider: str) -> dict[str, str]:
    tokens = document.get(provider) or {}
    if not isinstance(tokens, dict) or not all(isinstance(v, str) and v for v in tokens.values()):
        raise SettingsError(f"WARMUP_SECRETS_FILE: {provider}: must be a mapping of instance to token")
    return dict(tokens)
