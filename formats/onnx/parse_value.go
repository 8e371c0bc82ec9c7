package onnx

import "google.golang.org/protobuf/encoding/protowire"

func (p *parser) valueInfo(dst *[]*ValueInfo, parent *message, f field) error {
	m, err := p.message(parent, f, "a value's description")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costValueInfo); err != nil {
		return err
	}
	v := &ValueInfo{}
	*dst = append(*dst, v)
	seen := map[number]bool{}
	return p.fields(m, func(f field) error {
		switch f.num {
		case valueName:
			return p.text(&v.Name, f, "a value's name")
		case valueType:
			if err := p.once(seen, f, "a value's type"); err != nil {
				return err
			}
			return p.typeOf(v, m, f)
		case valueMetadata:
			return p.pair(&v.Metadata, m, f)
		}
		return nil
	})
}

// typeOf reads a TypeProto, of which only tensors are of interest.
func (p *parser) typeOf(v *ValueInfo, parent *message, f field) error {
	m, err := p.message(parent, f, "a type")
	if err != nil {
		return err
	}
	seen := map[number]bool{}
	return p.fields(m, func(f field) error {
		if f.num != typeTensor {
			return nil
		}
		if err := p.once(seen, f, "a tensor's type"); err != nil {
			return err
		}
		t, err := p.message(m, f, "a tensor's type")
		if err != nil {
			return err
		}
		return p.fields(t, func(f field) error {
			switch f.num {
			case tensorElem:
				v.ElemType = DataType(f.value)
				return p.want(f, protowire.VarintType, "elem_type")
			case tensorShape:
				if err := p.once(seen, f, "a shape"); err != nil {
					return err
				}
				v.HasShape = true
				return p.shape(v, t, f)
			}
			return nil
		})
	})
}

func (p *parser) shape(v *ValueInfo, parent *message, f field) error {
	m, err := p.message(parent, f, "a shape")
	if err != nil {
		return err
	}
	return p.fields(m, func(f field) error {
		if f.num != shapeDim {
			return nil
		}
		dim, err := p.message(m, f, "a dimension")
		if err != nil {
			return err
		}
		if err := p.charge(f.start, costString+costNumber); err != nil {
			return err
		}
		var d Dim
		err = p.fields(dim, func(f field) error {
			switch f.num { // a oneof: the last counts
			case dimValue:
				d = Dim{Value: int64(f.value), Known: int64(f.value) >= 0}
				return p.want(f, protowire.VarintType, "dim_value")
			case dimParam:
				d = Dim{}
				return p.word(&d.Param, f, "dim_param")
			}
			return nil
		})
		v.Dims = append(v.Dims, d)
		return err
	})
}
