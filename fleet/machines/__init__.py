"""The hosts of the environment `docker`: containers that are hosts, with systemd, sshd and an address each.

Owns images, network, containers, keys and certificates of that environment; everything that it made carries its
label, and nothing else is ever removed. Must not know what runs on a host: that is provisioning's, over SSH.
"""
