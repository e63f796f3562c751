module example.com/fillmask

go 1.24
