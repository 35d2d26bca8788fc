"""What happened to the mail, told outside: trace fields, notices to senders, the delivery log, metrics, alarms."""
