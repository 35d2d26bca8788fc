"""The accepting station: the SMTP server side, from the first byte of a connection to the reply after the final dot."""
