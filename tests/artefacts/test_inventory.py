"""What Ansible and ssh read of a project's guests."""

from kvmstate.views.inventory import Guest, ansible, ssh_config

GUESTS = [
    Guest("db-1", {"tier": "db", "app.kubernetes.io/name": "shop"}, ["fd00::5", "192.168.150.5"]),
    Guest("web-1", {"tier": "web"}, ["192.168.150.6"]),
    Guest("web-2", {"tier": "web"}, []),
]


def test_labels_are_groups_and_who_has_no_address_is_left_out() -> None:
    assert ansible(GUESTS, "ada") == {
        "all": {
            "hosts": {
                "db-1": {"ansible_host": "fd00::5", "ansible_user": "ada"},
                "web-1": {"ansible_host": "192.168.150.6", "ansible_user": "ada"},
            },
            "children": {
                "app_kubernetes_io_name_shop": {"hosts": {"db-1": {}}},
                "tier_db": {"hosts": {"db-1": {}}},
                "tier_web": {"hosts": {"web-1": {}}},
            },
        }
    }
    assert ansible([]) == {"all": {"hosts": {}}}


def test_ssh_finds_each_by_its_name() -> None:
    assert ssh_config(GUESTS) == "Host db-1\n  HostName fd00::5\nHost web-1\n  HostName 192.168.150.6"
