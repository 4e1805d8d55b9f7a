"""What tests share: installations, servers, networks, made files and runs."""
