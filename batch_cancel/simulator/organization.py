"""The organization's listings: roots, units and accounts, in pages of twenty (AWS Organizations API, 2016-11-28)."""

from collections.abc import Mapping
from typing import Any

from batch_cancel.simulator.requests import Parameters, Refused
from batch_cancel.simulator.settings import OrganizationSettings

LARGEST_PAGE = 20
ORGANIZATION_ID = "o-simulated1"
ROOT_ID = "r-sim1"


class Organization:
    """What the management account may ask of its organization."""

    def __init__(self, settings: OrganizationSettings, accounts: tuple[str, ...]) -> None:
        self._settings = settings
        self._accounts = accounts
        self.management_account_id = accounts[0]
        in_units = {account_id for unit in settings.units for account_id in unit.accounts}
        self._accounts_by_parent = {unit.id: unit.accounts for unit in settings.units}
        self._accounts_by_parent[ROOT_ID] = tuple(each for each in accounts if each not in in_units)

    def answer(self, caller_account_id: str, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Carry out one read call.

        Raises:
            Refused: the caller is not the management account, there is no such parent, or the request is off.
        """
        if caller_account_id != self.management_account_id and operation != "DescribeOrganization":
            raise Refused("AccessDeniedException", "You don't have permissions to access this resource.")
        match operation:
            case "DescribeOrganization":
                return {
                    "Organization": {
                        "Id": ORGANIZATION_ID,
                        "MasterAccountId": self.management_account_id,
                        "MasterAccountArn": self._arn(f"account/{ORGANIZATION_ID}/{self.management_account_id}"),
                    }
                }
            case "ListRoots":
                root = {
                    "Id": ROOT_ID,
                    "Name": "Root",
                    "Arn": self._arn(f"root/{ORGANIZATION_ID}/{ROOT_ID}"),
                    "PolicyTypes": [],
                }
                return _page("Roots", [root], parameters)
            case "ListAccounts":
                return _page("Accounts", [self._account(each) for each in self._accounts], parameters)
            case "ListAccountsForParent":
                accounts = self._accounts_by_parent[self._parent(parameters)]
                return _page("Accounts", [self._account(each) for each in accounts], parameters)
            case _:
                parent = self._parent(parameters)
                units = [
                    {"Id": unit.id, "Name": unit.name, "Arn": self._arn(f"ou/{ORGANIZATION_ID}/{unit.id}")}
                    for unit in self._settings.units
                    if (unit.parent or ROOT_ID) == parent
                ]
                return _page("OrganizationalUnits", units, parameters)

    def _parent(self, parameters: Parameters) -> str:
        parent = parameters.get("ParentId")
        if not isinstance(parent, str) or not parent:
            raise Refused("InvalidInputException", "You provided a value that does not match the required pattern.")
        if parent not in self._accounts_by_parent:
            raise Refused("ParentNotFoundException", "You specified parent that doesn't exist.")
        return parent

    def _account(self, account_id: str) -> Mapping[str, Any]:
        suspended = account_id in self._settings.suspended_accounts
        return {
            "Id": account_id,
            "Arn": self._arn(f"account/{ORGANIZATION_ID}/{account_id}"),
            "Email": f"owner+{account_id}@example.com",
            "Name": f"account-{account_id}",
            "Status": "SUSPENDED" if suspended else "ACTIVE",
            "State": "SUSPENDED" if suspended else "ACTIVE",
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": 1577836800.0,
        }

    def _arn(self, resource: str) -> str:
        return f"arn:aws:organizations::{self.management_account_id}:{resource}"


def _page(name: str, items: list[Mapping[str, Any]] | list[dict[str, Any]], parameters: Parameters) -> dict[str, Any]:
    token = parameters.get("NextToken") or "0"
    size = parameters.get("MaxResults") or LARGEST_PAGE
    if (
        not isinstance(size, int)
        or not 1 <= size <= LARGEST_PAGE
        or not str(token).isascii()
        or not str(token).isdigit()
    ):
        raise Refused("InvalidInputException", "You specified an invalid value for NextToken or MaxResults.")
    begin, end = int(token), int(token) + size
    page: dict[str, Any] = {name: items[begin:end]}
    if end < len(items):
        page["NextToken"] = str(end)
    return page
