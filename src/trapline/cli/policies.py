"""`trapline policies`: list, show and compare trap policies."""

from __future__ import annotations

from cyclopts import App

from trapline.cli.common import finish
from trapline.cli.concrete import concrete
from trapline.cli.options import Flag, Json

policies = App(name="policies", help="List the trap policies, show one, or compare two.", help_format="plaintext")


@policies.default
@concrete
def policies_list(name: str | None = None, /, *, changes: Flag = False, json: Json = None) -> int:
    """List the presets; with a name, show that policy.

    Parameters
    ----------
    name
        A preset or a TOML file.
    changes
        Show what each release changed, or the one that is named.
    """
    if changes:
        return _changes(name, json)
    if name is not None:
        return policies_show(name, json=json)
    from trapline.lab.policies import presets
    from trapline.views.policies import show_list

    found = presets()
    data = [{"name": p.name, "hedeleg": p.hedeleg, "description": p.description} for p in found]
    finish(data, json, lambda out: show_list(out, found))
    return 0


def _changes(name: str | None, json: str | None) -> int:
    from trapline.lab.policies import changes
    from trapline.views.policies import show_changes

    found = changes(name)
    finish([c.as_data() for c in found], json, lambda out: show_changes(out, found))
    return 0


@policies.command(name="list")
@concrete
def policies_list_command(*, json: Json = None) -> int:
    """List the presets."""
    return policies_list(json=json)


@policies.command(name="explain")
@concrete
def policies_explain(name: str | None = None, /, *, markdown: Flag = False, json: Json = None) -> int:
    """Say what the name of a bug, feature or counter means, who says so, and which presets have it.

    Parameters
    ----------
    name
        A name as `policies show`, `policies diff` and the results have it; all of them if none is named.
    markdown
        All of them as a page of Markdown.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.explain import explain, glossary
    from trapline.views.policies import show_glossary, show_terms, write_glossary

    found = glossary() if name is None else explain(name)
    data = [t.as_data() for t in found]
    if markdown and name is not None:
        raise UsageError("--markdown is for the page of all names", remedy="leave the name out")
    if markdown:
        finish(data, json, lambda out: write_glossary(out, found))
        return 0
    finish(data, json, lambda out: show_glossary(out, found) if name is None else show_terms(out, found))
    return 0


@policies.command(name="show")
@concrete
def policies_show(name: str, /, *, json: Json = None) -> int:
    """Show what a policy does with every cause, and who says so.

    Parameters
    ----------
    name
        A preset or a TOML file.
    """
    from trapline.lab.settings import policy_of
    from trapline.policies import predecessor
    from trapline.views.policies import show_policy

    policy = policy_of(name)
    finish(policy.as_data(), json, lambda out: show_policy(out, policy, predecessor(policy)))
    return 0


@policies.command(name="diff")
@concrete
def policies_diff(left: str, right: str, /, *, json: Json = None) -> int:
    """Show what two policies say differently.

    Parameters
    ----------
    left
        A preset or a TOML file.
    right
        Another one.
    """
    from trapline.lab.policies import difference, difference_data
    from trapline.lab.settings import policy_of
    from trapline.views.policies import show_difference

    a, b = policy_of(left), policy_of(right)
    finish(difference_data(a, b), json, lambda out: show_difference(out, a, b, difference(a, b)))
    return 0
