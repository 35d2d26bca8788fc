"""What operators work with: the command line. Thin: it calls control, and reads spool and journal."""
