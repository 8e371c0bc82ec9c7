// Package gemm multiplies matrices.
package gemm

//go:generate sh -c "cd asm && go run . -pkg gemm -out ../gemm_amd64.s -stubs ../stubs_amd64.go"
