"""What becomes of the tables if runs are killed, disks are full or logs are torn (`make test-faults`)."""
