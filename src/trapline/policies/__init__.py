"""Policy as data: what HS-mode does with each cause, what it counts, which bugs it has."""

from trapline.policies.compare import Difference, describe, diff, show
from trapline.policies.load import DEFAULT_POLICY, load_policy, parse_policy, policy_names, predecessor
from trapline.policies.schema import Action, CauseRule, Condition, Implicit, Policy, PolicyError, Refusal

__all__ = [
    "DEFAULT_POLICY",
    "Action",
    "CauseRule",
    "Condition",
    "Difference",
    "Implicit",
    "Policy",
    "PolicyError",
    "Refusal",
    "describe",
    "diff",
    "load_policy",
    "parse_policy",
    "policy_names",
    "predecessor",
    "show",
]
