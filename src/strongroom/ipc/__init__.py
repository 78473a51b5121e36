"""How the processes of one machine talk: length-prefixed JSON frames over Unix sockets with peer credentials."""
