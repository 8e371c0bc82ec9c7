module github.com/seed-b982eded/graft/internal/gemm/netlib

go 1.26.0

replace github.com/seed-b982eded/graft => ../../..

require (
	github.com/seed-b982eded/graft v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.50.0
	gonum.org/v1/gonum v0.17.0
	gonum.org/v1/netlib v0.0.0-20190313105609-8cb42192e0e0
)

require golang.org/x/exp v0.0.0-20261113113407-e3970619a1a4 // indirect
