"""The LDAP directories: connections, lookups, following, writing, and what the attributes mean."""
