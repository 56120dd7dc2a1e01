"""Operator jobs about sessions: reconnect chips, show the QR code of one.

Holds: ``reconnect_chips`` and ``show_qr_code``. Do not add: what they do (``warmup.sessions``), other
operator jobs (``jobs``).
"""

import base64
from datetime import UTC
from typing import Final

import dagster as dg

from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.names import RESOURCE
from warmup_pipeline.orchestration.text import markdown_table
from warmup_pipeline.warmup.gateway_step import moment
from warmup_pipeline.warmup.operating import OperatorError
from warmup_pipeline.warmup.sessions import pairing_of
from warmup_pipeline.warmup.sessions import reconnect_chips as reconnect
from warmup_pipeline.warmup.world import World

_AUTHOR: Final = dg.Field(str, default_value="operator", description="Who does this, for operator_actions.")
_REASON: Final = dg.Field(str, default_value="", description="Why, for operator_actions.")


def _refused(world: World, error: OperatorError) -> dg.Failure:
    return dg.Failure(description=world.redactor.text(str(error)), allow_retries=False)


@dg.op(
    description="Brings chips' sessions back now, each by what suits its state, and says what a person must do.",
    required_resource_keys={RESOURCE},
    config_schema={
        "chips": dg.Field(
            [str],
            default_value=[],
            description='The chips, each by its id, instance, label or last four digits: ["8618"].',
        ),
        "author": _AUTHOR,
        "reason": _REASON,
    },
    out=dg.Out(dg.Nothing),
)
def reconnect_chips_op(context: dg.OpExecutionContext) -> None:
    """Reconnect chips."""
    config = context.op_config
    with guarded(context.resources.warmup, context.log, []) as world:
        try:
            done = reconnect(world, config["chips"], author=config["author"], reason=config["reason"])
        except OperatorError as error:
            raise _refused(world, error) from None
        for one in done:
            context.log.info(f"…{one.last4}: {one.before} → {one.after} ({one.action}) {one.detail}")
        context.add_output_metadata(
            {
                "chips": len(done),
                "open": sum(one.after == "open" for one in done),
                "sessions": dg.MetadataValue.md(
                    markdown_table(
                        ("chip", "before", "did", "after", "what a person must do"),
                        [
                            (f"…{one.last4}", one.before, one.action, one.after, one.needs_person or "")
                            for one in done
                        ],
                    )
                ),
            }
        )


@dg.job(
    executor_def=dg.in_process_executor,
    description="Bring chips' sessions back now, without waiting for the next attempt of a cycle. One that is open "
    "is left alone; where a person must act, the run's page says what to do. Fill in the Launchpad and launch.",
    config={"ops": {"reconnect_chips_op": {"config": {"chips": [], "reason": "", "author": "operator"}}}},
)
def reconnect_chips() -> None:
    """Bring chips' sessions back."""
    reconnect_chips_op()


@dg.op(
    description="Shows the QR code of a chip's session as a picture, and until when it can be scanned.",
    required_resource_keys={RESOURCE},
    config_schema={
        "chip": dg.Field(
            str, default_value="", description="The chip: its id, instance, label or last four digits."
        ),
        "by_code": dg.Field(
            bool,
            default_value=False,
            description="A code to type on the chip's phone, instead of a picture to scan with it.",
        ),
        "author": _AUTHOR,
        "reason": _REASON,
    },
    out=dg.Out(dg.Nothing),
)
def show_qr_code_op(context: dg.OpExecutionContext) -> None:
    """Show a QR code."""
    config = context.op_config
    with guarded(context.resources.warmup, context.log, []) as world:
        try:
            shown = pairing_of(
                world,
                config["chip"],
                by_code=config["by_code"],
                author=config["author"],
                reason=config["reason"],
            )
        except OperatorError as error:
            raise _refused(world, error) from None
        chip, pairing = shown.chip, shown.pairing
        if pairing.connected:
            context.log.info(f"…{chip.last4} is connected: there is nothing to scan")
            context.add_output_metadata({"chip": f"…{chip.last4}", "state": "open"})
            return
        if pairing.picture is None and pairing.code is None:
            raise dg.Failure(
                description=f"…{chip.last4}: the gateway has no code yet; launch this again in a few seconds",
                allow_retries=False,
            )
        until = f"{moment(shown.until, world)}:{shown.until.astimezone(UTC):%S}"
        seconds = round(pairing.lasts.total_seconds())
        metadata: dict[str, dg.MetadataValue | str | int] = {
            "chip": f"…{chip.last4}",
            "expires_at": dg.MetadataValue.timestamp(shown.until),
        }
        if pairing.picture is not None:
            data = base64.b64encode(pairing.picture).decode()
            words = f"**Expires at {until}** (after {seconds} s; then launch this again)"
            metadata["qr_code"] = dg.MetadataValue.md(
                f"{words}\n\n![QR code of …{chip.last4}](data:image/png;base64,{data})\n\n"
                "On the chip's phone: WhatsApp → Linked devices → Link a device."
            )
        if pairing.code is not None:
            metadata["pairing_code"] = dg.MetadataValue.md(
                f"`{pairing.code}`\n\nOn the chip's phone: WhatsApp → Linked devices → Link with phone number."
            )
        context.log.info(f"…{chip.last4}: the code can be used until {until}")
        context.add_output_metadata(metadata)


@dg.job(
    executor_def=dg.in_process_executor,
    description="Show the QR code of a chip whose session was logged out, as a picture on the run's page, with its "
    "expiry. Fill in the Launchpad, launch, open the run and scan it with the chip's phone.",
    config={
        "ops": {
            "show_qr_code_op": {"config": {"chip": "", "by_code": False, "reason": "", "author": "operator"}}
        }
    },
)
def show_qr_code() -> None:
    """Show a chip's QR code."""
    show_qr_code_op()


SESSION_JOBS: Final = [reconnect_chips, show_qr_code]
