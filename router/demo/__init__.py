"""The whole relay on loopback: two stores, traffic, people moved under load, and the balance at the end."""
