"""Who exists: members, services, people, devices and their keys."""
