"""The only code that touches processes, sockets, libvirt, Ansible and DBOS."""
