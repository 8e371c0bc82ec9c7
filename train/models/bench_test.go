package models

import "testing"

// A training step, without the optimizer, of 4 sequences of 128 tokens with factors on
// the query and value projections.
func BenchmarkLossGrad(b *testing.B) {
	for _, ref := range references {
		if ref.model != tinyLlama {
			continue
		}
		b.Run(ref.name, func(b *testing.B) {
			m := loadModel(b, tinyLlama)
			if err := m.Train(readAdapter(b, ref.model, ref.name, "init"), TrainOptions{}); err != nil {
				b.Fatal(err)
			}
			batch := repeated(b, 4, 128)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := m.LossGrad(batch, 1./512); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One token after another with a cache.
func BenchmarkGenerate(b *testing.B) {
	m := loadModel(b, tinyLlama)
	var s Session
	for b.Loop() {
		if s == nil || s.Len() == m.MaxPositions() {
			s = m.NewSession()
		}
		if _, err := s.Step([]int32{int32(s.Len())}); err != nil {
			b.Fatal(err)
		}
	}
}

// repeated makes a batch of the reference's tokens.
func repeated(t testing.TB, rows, cols int) Batch {
	ids, _ := goldenIDs(t, golden(t, tinyLlama, "qv-r8", "inputs.safetensors"), "batches")
	b := Batch{Rows: rows, Cols: cols}
	for i := range rows * cols {
		b.IDs = append(b.IDs, ids[i])
		b.Labels = append(b.Labels, ids[i+1])
	}
	return b
}
