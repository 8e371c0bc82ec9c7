module github.com/seed-b982eded/graft

go 1.26
