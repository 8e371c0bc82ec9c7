package train

// Footprint compares the optimizer's memory when only some parameters are trained
// with what training all of them would take. It counts the moments, of which [AdamW] has
// two and [SGD] has one or none; gradients (4 bytes a parameter) grow in the same proportion.
type Footprint struct {
	Trainable int64 `json:"trainable_params"`
	Total     int64 `json:"total_params"`
	// Bytes is the optimizer state of the trainable parameters, FullBytes that of all.
	Bytes     int64 `json:"optimizer_bytes"`
	FullBytes int64 `json:"full_optimizer_bytes"`
}

// OptimizerFootprint returns the comparison for AdamW and a model of total parameters,
// those of the adapter not included, of which trainable ones are trained.
func OptimizerFootprint(trainable, total int64) Footprint {
	return DefaultOptions.Footprint(trainable, total)
}

// Footprint is [OptimizerFootprint] for the optimizer of the options.
func (opt Options) Footprint(trainable, total int64) Footprint {
	moments := int64(2)
	if opt.Optimizer == SGDOptimizer {
		moments = 1
		if opt.SGD.Momentum == 0 {
			moments = 0
		}
	}
	const float32Bytes = 4
	return Footprint{
		Trainable: trainable,
		Total:     total,
		Bytes:     trainable * moments * float32Bytes,
		FullBytes: total * moments * float32Bytes,
	}
}

// Times returns how many times smaller the state is than that of full training, or
// 0 if nothing is trained.
func (f Footprint) Times() float64 {
	if f.Bytes == 0 {
		return 0
	}
	return float64(f.FullBytes) / float64(f.Bytes)
}
