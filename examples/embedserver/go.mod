module example.com/embedserver

go 1.24
