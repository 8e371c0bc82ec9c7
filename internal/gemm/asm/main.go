// Command asm generates the assembly of package gemm. It is a module of its own so that
// the generator is no dependency of graft. Run it by "go generate" in the package.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!noasm")
	for _, t := range []float{single, double} {
		for _, s := range []set{avx2, avx512} {
			for _, rows := range s.wide {
				tile(t, s, rows, 2)
			}
			for _, rows := range s.narrow {
				tile(t, s, rows, 1)
			}
		}
	}
	for _, bytes := range []int{32, 64, 128} {
		copyRows(bytes)
	}
	transpose32()
	transpose64()
	widenBF16()
	widenF16()
	cpuidF16C()
	peak(single)
	peak(double)
	Generate()
}

// set is an instruction set: the bytes of its vectors and the heights of its tiles of two
// vectors and of one vector. The tallest fill the registers: its sums, the vectors of b,
// and the elements of a that are on their way.
type set struct {
	name         string
	bytes        int
	wide, narrow []int
}

var (
	avx2   = set{"AVX2", 32, []int{1, 2, 3, 4, 5, 6}, []int{1, 2, 4, 6, 8, 12}}
	avx512 = set{"AVX512", 64, []int{1, 2, 3, 4, 6, 8, 11, 14}, []int{1, 2, 4, 8, 14}}
)

func (s set) vector() reg.VecVirtual {
	if s.bytes == 64 {
		return ZMM()
	}
	return YMM()
}

// float is a type of elements with its instructions.
type float struct {
	bits                                 int
	move, mul, fma231, fma213, broadcast func(...Op)
}

var (
	single = float{32, VMOVUPS, VMULPS, VFMADD231PS, VFMADD213PS, VBROADCASTSS}
	double = float{64, VMOVUPD, VMULPD, VFMADD231PD, VFMADD213PD, VBROADCASTSD}
)

func (t float) size() int { return t.bits / 8 }

// tile generates tileTxHvW, which adds the product of H rows of a and W vectors of columns
// of b to c, group by group of H rows.
func tile(t float, s set, rows, vectors int) {
	name := fmt.Sprintf("tile%dx%dv%d_%s", t.bits, rows, vectors, s.name)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(k, groups int, a *float%[1]d, aRow, aStep, aGroup int, b *float%[1]d, bStep, bGroup int, c *float%[1]d, cRow, cGroup int, alpha float%[1]d, add bool)", t.bits))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies groups of %d rows with %d columns: see tile.", name, rows, vectors*s.bytes/t.size()))
	shift := U8(map[int]uint8{4: 2, 8: 3}[t.size()])
	bytes := func(param string) reg.GPVirtual {
		r := GP64()
		Load(Param(param), r)
		SHLQ(shift, r)
		return r
	}

	groups := Load(Param("groups"), GP64())
	a, b, c := Load(Param("a"), GP64()), Load(Param("b"), GP64()), Load(Param("c"), GP64())
	aRow, aStep, bStep := bytes("aRow"), bytes("aStep"), bytes("bStep")

	Label("group")
	// What the next group adds to is fetched meanwhile.
	cRow, to := bytes("cRow"), bytes("cGroup")
	ADDQ(c, to)
	sum := make([][]reg.VecVirtual, rows)
	for i := range sum {
		for range vectors {
			v := s.vector()
			if s.bytes == 64 {
				VPXORQ(v, v, v)
			} else {
				VPXOR(v, v, v)
			}
			sum[i] = append(sum[i], v)
		}
		// Both lines of a row of c that may straddle them.
		PREFETCHT0(Mem{Base: to})
		PREFETCHT0(Mem{Base: to, Disp: vectors*s.bytes - 1})
		ADDQ(cRow, to)
	}
	// One pointer for three rows: the other two are reached by its index.
	var row []reg.GPVirtual
	for i := 0; i < rows; i += 3 {
		p := GP64()
		if i == 0 {
			MOVQ(a, p)
		} else {
			LEAQ(Mem{Base: row[len(row)-1], Index: aRow, Scale: 2}, p)
			ADDQ(aRow, p)
		}
		row = append(row, p)
	}
	step, k := GP64(), Load(Param("k"), GP64())
	MOVQ(b, step)

	Label("step")
	right := make([]reg.VecVirtual, vectors)
	for j := range right {
		right[j] = s.vector()
		t.move(Mem{Base: step, Disp: j * s.bytes}, right[j])
	}
	for i := range rows {
		from := Mem{Base: row[i/3]}
		if i%3 > 0 {
			from.Index, from.Scale = aRow, uint8(i%3)
		}
		left := s.vector()
		t.broadcast(from, left)
		for j := range right {
			t.fma231(right[j], left, sum[i][j])
		}
	}
	for _, p := range row {
		ADDQ(aStep, p)
	}
	ADDQ(bStep, step)
	DECQ(k)
	JNZ(LabelRef("step"))

	alpha, add := s.vector(), GP64()
	t.broadcast(NewParamAddr("alpha", 12*8), alpha)
	MOVBQZX(NewParamAddr("add", 12*8+t.size()), add)
	cRow, to = bytes("cRow"), GP64()
	MOVQ(c, to)
	TESTQ(add, add)
	JZ(LabelRef("store"))
	for i := range sum {
		for j, v := range sum[i] {
			t.fma213(Mem{Base: to, Disp: j * s.bytes}, alpha, v)
			t.move(v, Mem{Base: to, Disp: j * s.bytes})
		}
		ADDQ(cRow, to)
	}
	JMP(LabelRef("next"))
	Label("store")
	for i := range sum {
		for j, v := range sum[i] {
			t.mul(alpha, v, v)
			t.move(v, Mem{Base: to, Disp: j * s.bytes})
		}
		ADDQ(cRow, to)
	}
	Label("next")
	ADDQ(bytes("aGroup"), a)
	ADDQ(bytes("bGroup"), b)
	ADDQ(bytes("cGroup"), c)
	DECQ(groups)
	JNZ(LabelRef("group"))
	VZEROUPPER()
	RET()
}

// copyRows generates the packing of an operand whose rows are the steps of the product.
func copyRows(bytes int) {
	name := fmt.Sprintf("copy%d_AVX2", bytes)
	TEXT(name, NOSPLIT, "func(dst, src *byte, n, dstStep, srcStep, ahead int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s copies n > 0 runs of %d bytes, which lie dstStep and srcStep bytes apart,", name, bytes),
		"and fetches what lies ahead bytes further.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	dstStep := Load(Param("dstStep"), GP64())
	srcStep := Load(Param("srcStep"), GP64())
	ahead := Load(Param("ahead"), GP64())
	Label("run")
	PREFETCHT0(Mem{Base: src, Index: ahead, Scale: 1})
	v := make([]reg.VecVirtual, bytes/32)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: src, Disp: 32 * i}, v[i])
	}
	for i := range v {
		VMOVUPS(v[i], Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(srcStep, src)
	ADDQ(dstStep, dst)
	DECQ(n)
	JNZ(LabelRef("run"))
	VZEROUPPER()
	RET()
}

// transposed begins a function that writes the columns of some rows one after another.
func transposed(t float, rows int) (row []reg.Register, dst, dstStep, cols, at reg.GPVirtual) {
	name := fmt.Sprintf("transpose%d_AVX2", t.bits)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst *float%[1]d, dstStep int, rows *[8]*float%[1]d, cols int)", t.bits))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes the columns of %d rows, a positive multiple of %d of columns, at", name, rows, rows),
		fmt.Sprintf("every dstStep-th place of dst. Rows of the array from %d on are not looked at.", rows))
	dst, dstStep, cols, at = GP64(), GP64(), GP64(), GP64()
	Load(Param("dst"), dst)
	Load(Param("dstStep"), dstStep)
	Load(Param("cols"), cols)
	SHLQ(U8(map[int]uint8{32: 2, 64: 3}[t.bits]), dstStep)
	list := Load(Param("rows"), GP64())
	for i := range rows {
		r := GP64()
		MOVQ(Mem{Base: list, Disp: 8 * i}, r)
		row = append(row, r)
	}
	XORQ(at, at)
	return
}

// halves loads 16 bytes of row i and of row j behind them.
func halves(row []reg.Register, at reg.Register, i, j, disp int) reg.VecVirtual {
	v := YMM()
	VMOVUPS(Mem{Base: row[i], Index: at, Scale: 1, Disp: disp}, v.AsX())
	VINSERTF128(U8(1), Mem{Base: row[j], Index: at, Scale: 1, Disp: disp}, v, v)
	return v
}

func transpose32() {
	row, dst, dstStep, cols, at := transposed(single, 8)
	Label("columns")
	for half := range 2 {
		var v, u [4]reg.VecVirtual
		for i := range v {
			v[i] = halves(row, at, i, i+4, 16*half)
			u[i] = YMM()
		}
		VUNPCKLPS(v[1], v[0], u[0])
		VUNPCKHPS(v[1], v[0], u[1])
		VUNPCKLPS(v[3], v[2], u[2])
		VUNPCKHPS(v[3], v[2], u[3])
		for i := range 2 {
			low, high := YMM(), YMM()
			VUNPCKLPD(u[2+i], u[i], low)
			VUNPCKHPD(u[2+i], u[i], high)
			VMOVUPS(low, Mem{Base: dst})
			ADDQ(dstStep, dst)
			VMOVUPS(high, Mem{Base: dst})
			ADDQ(dstStep, dst)
		}
	}
	ADDQ(U8(32), at)
	SUBQ(U8(8), cols)
	JNZ(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

func transpose64() {
	row, dst, dstStep, cols, at := transposed(double, 4)
	Label("columns")
	for half := range 2 {
		even, odd := halves(row, at, 0, 2, 16*half), halves(row, at, 1, 3, 16*half)
		low, high := YMM(), YMM()
		VUNPCKLPD(odd, even, low)
		VUNPCKHPD(odd, even, high)
		VMOVUPD(low, Mem{Base: dst})
		ADDQ(dstStep, dst)
		VMOVUPD(high, Mem{Base: dst})
		ADDQ(dstStep, dst)
	}
	ADDQ(U8(32), at)
	SUBQ(U8(4), cols)
	JNZ(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

// widen generates a loop over groups of 8 elements of 16 bits that become float32.
func widen(name string, one func(src Mem, v reg.VecVirtual)) {
	TEXT(name, NOSPLIT, "func(dst *float32, src *byte, n int)")
	Pragma("noescape")
	Doc(name + " widens n elements, a positive multiple of 8.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	Label("loop")
	v := YMM()
	one(Mem{Base: src}, v)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(U8(16), src)
	ADDQ(U8(32), dst)
	SUBQ(U8(8), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

func widenBF16() {
	widen("widenBF16_AVX2", func(src Mem, v reg.VecVirtual) {
		VPMOVZXWD(src, v)
		VPSLLD(U8(16), v, v)
	})
}

func widenF16() {
	widen("widenF16_AVX2", func(src Mem, v reg.VecVirtual) { VCVTPH2PS(src, v) })
}

// cpuidF16C asks for the half-precision conversions, bit 29 of ECX in leaf 1.
func cpuidF16C() {
	TEXT("hasF16C", NOSPLIT, "func() bool")
	Doc("hasF16C reports whether the processor converts half-precision numbers.")
	MOVL(U32(1), reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	SHRL(U8(29), reg.ECX)
	ANDL(U8(1), reg.ECX)
	Store(reg.CL, ReturnIndex(0))
	RET()
}

// peak generates a loop of fmas on registers alone, for benchmarks to compare with: as many
// independent sums as hide the latency of an fma. The linker leaves it out of programs.
func peak(t float) {
	const sums = 12
	name := fmt.Sprintf("peak%d_AVX2", t.bits)
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(fmt.Sprintf("%s does n times %d fmas on vectors in registers, for benchmarks.", name, sums))
	n := Load(Param("n"), GP64())
	x := YMM()
	VPXOR(x, x, x)
	var acc [sums]reg.VecVirtual
	for i := range acc {
		acc[i] = YMM()
		VPXOR(acc[i], acc[i], acc[i])
	}
	Label("loop")
	for _, v := range acc {
		t.fma231(x, x, v)
	}
	SUBQ(U8(1), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
