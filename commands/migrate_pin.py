"""`groundlift migrate pin`: trust a server's host key, once, after a person compared it."""

from pathlib import Path

import click

from adapters.ssh import host_key
from adapters.ssh_login import Login, fingerprint, pins
from commands.access import rescue_option
from commands.connect import open_case, site_option
from core.errors import UsageProblem
from core.state import State, publish


@click.command()
@click.argument("host")
@site_option
@rescue_option
@click.option(
    "--fingerprint", "expected", help="The SHA256:… or MD5:… it must have; then nobody is asked."
)
@click.option("--dry-run", is_flag=True, help="Show the fingerprint and pin nothing.")
@click.pass_obj
def pin(
    state: State, host: str, site_path: Path | None, expected: str | None, dry_run: bool
) -> None:
    """Show the host key of HOST and pin it after your consent; before it, that of the machine on
    the way, if there is one.

    Compare it on the server's own screen: `ssh-keygen -lf /etc/ssh/ssh_host_rsa_key.pub`.
    """
    login = open_case(state, host, site_path).source_login()
    jump = login.jump
    if jump is not None and pins(jump, host).lookup(jump.host_id) is None:
        click.echo("first the machine on the way:")
        trust(jump, host, None, dry_run)
        if dry_run:
            return
    trust(login, host, expected, dry_run)


def trust(login: Login, name: str, expected: str | None, dry_run: bool) -> None:
    """Show one machine's key and pin it."""
    key = host_key(login, name)
    line = f"{login.host_id} {key.get_name()} {key.get_base64()}"
    known = login.known_hosts.read_text() if login.known_hosts.exists() else ""
    click.echo(f"{login.host_id} {key.get_name()} {fingerprint(key)}")
    if line in known.splitlines():
        click.echo("already pinned, nothing changed")
        return
    if dry_run:
        return
    if expected is not None and expected not in fingerprint(key).split():
        raise UsageProblem(
            f"{name} shows {fingerprint(key)}, not {expected}",
            hint="another machine may be answering under this address",
        )
    if expected is None:
        click.confirm("Is this what the machine's own screen shows?", abort=True)
    if any(entry.split(" ", 1)[0] == login.host_id for entry in known.splitlines()):
        raise UsageProblem(
            f"{login.known_hosts} holds another key for {login.host_id}",
            hint="find out why it changed; if it is right, remove the old line and pin again",
        )
    separator = "" if known.endswith("\n") or not known else "\n"
    publish(login.known_hosts, f"{known}{separator}{line}\n", mode=0o600)
    click.echo(f"pinned in {login.known_hosts}")
