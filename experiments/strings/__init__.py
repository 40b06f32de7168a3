"""What network strings retain, how long they are, and how fast they are made."""
