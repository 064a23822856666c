"""Who may reach which port of a host, by nftables."""

from pyinfra import host

from fleet import units
from fleet.templates import render

data = host.data

units.unit(
    name="Write the unit of the firewall",
    unit="pg-rehearsal-firewall.service",
    text=render("hosts/firewall.service.j2", rules=units.RULES),
)
units.firewall(
    name="Let in only those who need to",
    text=render("hosts/firewall.nft.j2", control=data.control_address, rules=data.firewall),
)
