"""Tests of real hosts: containers with systemd and sshd, provisioned over SSH. Marker `hosts`."""
