"""What a list of runs looks like, for those who are to write one."""

CSV = """\
transform_id,task_run_id,account_id,region,team
tfm-1f2e,tsk-a1,222222222222,us-east-1,search
tfm-1f2e,tsk-b2,222222222222,eu-west-1,search
tfm-9c3d,tsk-c3,,,
"""
YAML = """\
- {transform_id: tfm-1f2e, task_run_id: tsk-a1, account_id: "222222222222", region: us-east-1, team: search}
- {transform_id: tfm-1f2e, task_run_id: tsk-b2, account_id: "222222222222", region: eu-west-1, team: search}
- {transform_id: tfm-9c3d, task_run_id: tsk-c3}
"""
"""The same runs."""

ABOUT = """\
transform_id and task_run_id are needed. account_id and region may be empty or missing: then they
are those of the credentials and of --region. Any other column comes back in the reports as a label.
"""


def for_help(*, yaml: bool = False) -> str:
    """A paragraph for a command's help, to be kept as it is."""
    parts = {"A list of runs (CSV):": CSV} | ({"The same in YAML:": YAML} if yaml else {})
    lines = [f"{title}\n{_indented(text)}" for title, text in parts.items()]
    return "\b\n" + "\n".join(lines) + f"\n{ABOUT}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
