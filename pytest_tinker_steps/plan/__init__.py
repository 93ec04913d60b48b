"""What is to be done. Pure: no pytest, no processes, no clock."""
