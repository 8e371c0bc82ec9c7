// Command asm generates the assembly of package kernel. It is a module of its own so
// that the generator is no dependency of graft. Run it by "go generate" in the package.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!noasm")
	for _, rows := range []int{4, 1} {
		product("AVX2", rows, 32, 4)
		product("AVX512", rows, 64, 4)
		product("AVX2", rows, 32, 8)
		product("AVX512", rows, 64, 8)
	}
	cpuidF16C()
	finishBF16()
	finishF16()
	finishF32()
	finishF64()
	Generate()
}

// product generates productXxRows: the scaled products of some rows of the left factor
// with the right one, over two vectors of columns at a time, stored or added to sum.
//
//	acc = 0; for k: acc = fma(left[row·r+k], right[k·stride+c], acc)
//	sum[row·sumStride+c] = acc·scale, or += with add
func product(isa string, rows, vectorBytes, elem int) {
	typ, suffix := "float32", "32"
	if elem == 8 {
		typ, suffix = "float64", "64"
	}
	name := fmt.Sprintf("product%sx%d_%s", suffix, rows, isa)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(sum, left, right *%s, sumStride, stride, cols, r int, scale %s, add bool)", typ, typ))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes sum[i·sumStride+c] (+)= scale · Σₖ left[i·r+k]·right[k·stride+c] for %d rows i and", name, rows),
		fmt.Sprintf("cols columns c, a multiple of %d, each sum by fma in the order of k.", 2*vectorBytes/elem))
	pick := func(f32, f64 func(...Op)) func(...Op) {
		if elem == 8 {
			return f64
		}
		return f32
	}
	load := pick(VMOVUPS, VMOVUPD)
	mul := pick(VMULPS, VMULPD)
	plus := pick(VADDPS, VADDPD)
	fma := pick(VFMADD231PS, VFMADD231PD)
	broadcast := pick(func(o ...Op) { VBROADCASTSS(o...) }, func(o ...Op) { VBROADCASTSD(o...) })
	vec := func() reg.VecVirtual {
		if vectorBytes == 64 {
			return ZMM()
		}
		return YMM()
	}

	sum := Load(Param("sum"), GP64())
	left := Load(Param("left"), GP64())
	right := Load(Param("right"), GP64())
	sumRow := Load(Param("sumStride"), GP64())
	stride := Load(Param("stride"), GP64())
	cols := Load(Param("cols"), GP64())
	leftRow := Load(Param("r"), GP64())
	add := GP64()
	MOVBQZX(NewParamAddr("add", 7*8+elem), add)
	shift := uint8(2)
	if elem == 8 {
		shift = 3
	}
	for _, r := range []reg.Register{sumRow, stride, leftRow} { // to bytes
		SHLQ(U8(shift), r)
	}
	scale := vec()
	broadcast(NewParamAddr("scale", 7*8), scale)
	end, leftRow3, sumRow3 := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: left, Index: leftRow, Scale: 1}, end)
	if rows > 1 {
		LEAQ(Mem{Base: leftRow, Index: leftRow, Scale: 2}, leftRow3)
		LEAQ(Mem{Base: sumRow, Index: sumRow, Scale: 2}, sumRow3)
	}
	// row returns the place of row i, of up to four.
	row := func(base, step, step3 reg.Register, i, disp int) Mem {
		switch i {
		case 1:
			return Mem{Base: base, Index: step, Scale: 1, Disp: disp}
		case 2:
			return Mem{Base: base, Index: step, Scale: 2, Disp: disp}
		case 3:
			return Mem{Base: base, Index: step3, Scale: 1, Disp: disp}
		}
		return Mem{Base: base, Disp: disp}
	}

	Label("columns")
	CMPQ(cols, U8(0))
	JLE(LabelRef("done"))
	acc := make([][2]reg.VecVirtual, rows)
	for i := range acc {
		acc[i] = [2]reg.VecVirtual{vec(), vec()}
		for _, v := range acc[i] {
			if vectorBytes == 64 {
				VPXORQ(v, v, v)
			} else {
				VPXOR(v, v, v)
			}
		}
	}
	l, at := GP64(), GP64()
	MOVQ(left, l)
	MOVQ(right, at)
	Label("terms")
	CMPQ(l, end)
	JGE(LabelRef("scaled"))
	a := [2]reg.VecVirtual{vec(), vec()}
	load(Mem{Base: at}, a[0])
	load(Mem{Base: at, Disp: vectorBytes}, a[1])
	for i := range rows {
		b := vec()
		broadcast(row(l, leftRow, leftRow3, i, 0), b)
		fma(a[0], b, acc[i][0])
		fma(a[1], b, acc[i][1])
	}
	ADDQ(U8(elem), l)
	ADDQ(stride, at)
	JMP(LabelRef("terms"))

	Label("scaled")
	for i := range rows {
		for j := range 2 {
			mul(scale, acc[i][j], acc[i][j])
		}
	}
	TESTQ(add, add)
	JZ(LabelRef("store"))
	for i := range rows {
		for j := range 2 {
			plus(row(sum, sumRow, sumRow3, i, j*vectorBytes), acc[i][j], acc[i][j])
		}
	}
	Label("store")
	for i := range rows {
		for j := range 2 {
			load(acc[i][j], row(sum, sumRow, sumRow3, i, j*vectorBytes))
		}
	}
	ADDQ(U32(2*vectorBytes), sum)
	ADDQ(U32(2*vectorBytes), right)
	SUBQ(U8(2*vectorBytes/elem), cols)
	JMP(LabelRef("columns"))
	Label("done")
	VZEROUPPER()
	RET()
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

// finish begins a function that adds sums to a base's elements and encodes them, and
// returns its registers.
func finish(name, typ, doc string) (dst, src, sum, n reg.Register, bad reg.VecVirtual) {
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst, src *byte, sum *%s, n int) (bad uint32)", typ))
	Pragma("noescape")
	Doc(doc, "It returns other than 0 if a result is not finite.")
	dst = Load(Param("dst"), GP64())
	src = Load(Param("src"), GP64())
	sum = Load(Param("sum"), GP64())
	n = Load(Param("n"), GP64())
	bad = YMM()
	VPXOR(bad, bad, bad)
	return
}

func finishEnd(bad reg.VecVirtual) {
	Label("done")
	mask := GP32()
	VPMOVMSKB(bad, mask)
	VZEROUPPER()
	Store(mask, ReturnIndex(0))
	RET()
}

func constant32(x uint32) reg.VecVirtual {
	g, v := GP32(), YMM()
	MOVL(U32(x), g)
	VMOVD(g, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// markNotFinite sets bad where bits have all the bits of the exponent.
func markNotFinite(bits, exponent, bad reg.VecVirtual) {
	t := YMM()
	VPAND(exponent, bits, t)
	VPCMPEQD(exponent, t, t)
	VPOR(t, bad, bad)
}

func finishBF16() {
	dst, src, sum, n, bad := finish("finishBF16_AVX2", "float32", "finishBF16_AVX2 writes bf16(src[i] + sum[i]) for n elements, a multiple of 16.")
	exponent, half, one := constant32(0x7f800000), constant32(0x7fff), constant32(1)
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	var out [2]reg.VecVirtual
	for j := range 2 {
		w, lsb := YMM(), YMM()
		VPMOVZXWD(Mem{Base: src, Disp: 16 * j}, w)
		VPSLLD(U8(16), w, w)
		VADDPS(Mem{Base: sum, Disp: 32 * j}, w, w)
		// Rounding could carry a NaN over into a number: leave what is not finite.
		special := YMM()
		VPAND(exponent, w, special)
		VPCMPEQD(exponent, special, special)
		VPSRLD(U8(16), w, lsb)
		VPAND(one, lsb, lsb)
		VPADDD(half, lsb, lsb)
		VPANDN(lsb, special, lsb)
		VPADDD(lsb, w, w)
		markNotFinite(w, exponent, bad)
		VPSRLD(U8(16), w, w)
		out[j] = w
	}
	packed := YMM()
	VPACKUSDW(out[1], out[0], packed)
	VPERMQ(U8(0xd8), packed, packed)
	VMOVDQU(packed, Mem{Base: dst})
	ADDQ(U8(32), dst)
	ADDQ(U8(32), src)
	ADDQ(U8(64), sum)
	SUBQ(U8(16), n)
	JMP(LabelRef("loop"))
	finishEnd(bad)
}

func finishF16() {
	dst, src, sum, n, bad := finish("finishF16_AVX2", "float32", "finishF16_AVX2 writes f16(src[i] + sum[i]) for n elements, a multiple of 8.")
	exponent, exponent16 := constant32(0x7f800000), constant32(0x7c007c00)
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	w, h, t := YMM(), XMM(), XMM()
	VCVTPH2PS(Mem{Base: src}, w)
	VADDPS(Mem{Base: sum}, w, w)
	markNotFinite(w, exponent, bad)
	VCVTPS2PH(U8(0), w, h)
	VPAND(exponent16.AsX(), h, t)
	VPCMPEQW(exponent16.AsX(), t, t)
	wide := YMM()
	VPMOVSXWD(t, wide)
	VPOR(wide, bad, bad)
	VMOVDQU(h, Mem{Base: dst})
	ADDQ(U8(16), dst)
	ADDQ(U8(16), src)
	ADDQ(U8(32), sum)
	SUBQ(U8(8), n)
	JMP(LabelRef("loop"))
	finishEnd(bad)
}

func finishF32() {
	dst, src, sum, n, bad := finish("finishF32_AVX2", "float32", "finishF32_AVX2 writes src[i] + sum[i] for n elements, a multiple of 8.")
	exponent := constant32(0x7f800000)
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	w := YMM()
	VMOVUPS(Mem{Base: src}, w)
	VADDPS(Mem{Base: sum}, w, w)
	markNotFinite(w, exponent, bad)
	VMOVUPS(w, Mem{Base: dst})
	ADDQ(U8(32), dst)
	ADDQ(U8(32), src)
	ADDQ(U8(32), sum)
	SUBQ(U8(8), n)
	JMP(LabelRef("loop"))
	finishEnd(bad)
}

func finishF64() {
	dst, src, sum, n, bad := finish("finishF64_AVX2", "float64", "finishF64_AVX2 writes src[i] + sum[i] for n elements, a multiple of 4.")
	exponent := YMM()
	g := GP64()
	MOVQ(U64(0x7ff0000000000000), g)
	VMOVQ(g, exponent.AsX())
	VPBROADCASTQ(exponent.AsX(), exponent)
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	w, t := YMM(), YMM()
	VMOVUPD(Mem{Base: src}, w)
	VADDPD(Mem{Base: sum}, w, w)
	VPAND(exponent, w, t)
	VPCMPEQQ(exponent, t, t)
	VPOR(t, bad, bad)
	VMOVUPD(w, Mem{Base: dst})
	ADDQ(U8(32), dst)
	ADDQ(U8(32), src)
	ADDQ(U8(32), sum)
	SUBQ(U8(4), n)
	JMP(LabelRef("loop"))
	finishEnd(bad)
}
