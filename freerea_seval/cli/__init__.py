"""The command line. Modules here import what a command needs when it runs, never before."""
