"""The broker's database, its certificates, its TLS server, and its connection to the log writer."""
