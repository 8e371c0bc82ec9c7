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
	for rows := range 6 {
		product("AVX2", rows+1, 32, 4)
		product("AVX512", rows+1, 64, 4)
		product("AVX2", rows+1, 32, 8)
		product("AVX512", rows+1, 64, 8)
	}
	cpuidF16C()
	finishBF16()
	finishF16()
	finishF32()
	finishF64()
	widenBF16()
	widenF16()
	narrowBF16()
	narrowF16()
	peak(4)
	peak(8)
	Generate()
}

// product generates productXxR: the scaled products of R rows of the left factor with the
// right one, in panels of two vectors of columns, stored or added to sum. R is at most 6:
// 12 sums, two vectors of the right factor and a coefficient fill 15 of the 16 registers,
// and give each of two multipliers six sums to work on while others are on their way.
//
//	acc = 0; for k: acc = fma(left[k·R+i], right[(panel·r+k)·width+c], acc)
//	sum[i·sumStride+panel·width+c] = acc·scale, or += with add
func product(isa string, rows, vectorBytes, elem int) {
	typ, suffix := "float32", "32"
	if elem == 8 {
		typ, suffix = "float64", "64"
	}
	name := fmt.Sprintf("product%sx%d_%s", suffix, rows, isa)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(sum, left, right *%s, sumStride, panels, r int, scale %s, add bool)", typ, typ))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d rows of sums over panels of %d columns, each by fma in the order", name, rows, 2*vectorBytes/elem),
		"of k: see product.")
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
	panels := Load(Param("panels"), GP64())
	r := Load(Param("r"), GP64())
	add := GP64()
	MOVBQZX(NewParamAddr("add", 6*8+elem), add)
	SHLQ(U8(map[int]uint8{4: 2, 8: 3}[elem]), sumRow) // to bytes

	Label("panels")
	TESTQ(panels, panels)
	JZ(LabelRef("done"))
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
	l, k := GP64(), GP64()
	MOVQ(left, l)
	MOVQ(r, k)
	TESTQ(k, k)
	JZ(LabelRef("scaled"))
	Label("terms")
	a := [2]reg.VecVirtual{vec(), vec()}
	load(Mem{Base: right}, a[0])
	load(Mem{Base: right, Disp: vectorBytes}, a[1])
	for i := range rows {
		b := vec()
		broadcast(Mem{Base: l, Disp: i * elem}, b)
		fma(a[0], b, acc[i][0])
		fma(a[1], b, acc[i][1])
	}
	ADDQ(U8(rows*elem), l)
	ADDQ(U32(2*vectorBytes), right)
	DECQ(k)
	JNZ(LabelRef("terms"))

	Label("scaled")
	scale := vec()
	broadcast(NewParamAddr("scale", 6*8), scale)
	for i := range rows {
		for j := range 2 {
			mul(scale, acc[i][j], acc[i][j])
		}
	}
	at := GP64()
	TESTQ(add, add)
	JZ(LabelRef("store"))
	MOVQ(sum, at)
	for i := range rows {
		for j := range 2 {
			plus(Mem{Base: at, Disp: j * vectorBytes}, acc[i][j], acc[i][j])
		}
		ADDQ(sumRow, at)
	}
	Label("store")
	MOVQ(sum, at)
	for i := range rows {
		for j := range 2 {
			load(acc[i][j], Mem{Base: at, Disp: j * vectorBytes})
		}
		ADDQ(sumRow, at)
	}
	ADDQ(U32(2*vectorBytes), sum)
	DECQ(panels)
	JMP(LabelRef("panels"))
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

// peak generates a loop of fmas on registers alone, for benchmarks to compare with: as many
// independent sums as hide the latency of an fma. The linker leaves it out of programs.
func peak(elem int) {
	name, fma := "peak32_AVX2", VFMADD231PS
	if elem == 8 {
		name, fma = "peak64_AVX2", VFMADD231PD
	}
	const sums = 12
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(fmt.Sprintf("%s does n times %d fmas on vectors in registers, for benchmarks.", name, sums))
	n := Load(Param("n"), GP64())
	x := YMM()
	VPXOR(x, x, x)
	acc := make([]reg.VecVirtual, sums)
	for i := range acc {
		acc[i] = YMM()
		VPXOR(acc[i], acc[i], acc[i])
	}
	Label("loop")
	for _, a := range acc {
		fma(x, x, a)
	}
	SUBQ(U8(1), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
