package onnx

import "google.golang.org/protobuf/encoding/protowire"

type number = protowire.Number

// The field numbers of onnx.proto that graft reads or writes.
const (
	modelIRVersion       number = 1
	modelProducerName    number = 2
	modelProducerVersion number = 3
	modelDomain          number = 4
	modelVersion         number = 5
	modelGraph           number = 7
	modelOpsetImport     number = 8
	modelMetadata        number = 14
	modelTraining        number = 20
	modelFunctions       number = 25

	opsetDomain  number = 1
	opsetVersion number = 2

	pairKey   number = 1
	pairValue number = 2

	trainingInitialization number = 1
	trainingAlgorithm      number = 2

	graphNode              number = 1
	graphName              number = 2
	graphInitializer       number = 5
	graphInput             number = 11
	graphOutput            number = 12
	graphValueInfo         number = 13
	graphQuantization      number = 14
	graphSparseInitializer number = 15
	graphMetadata          number = 16

	quantizationTensorName number = 1

	functionName      number = 1
	functionInput     number = 4
	functionOutput    number = 5
	functionNode      number = 7
	functionOpset     number = 9
	functionDomain    number = 10
	functionDefaults  number = 11
	functionValueInfo number = 12
	functionOverload  number = 13
	functionMetadata  number = 14

	nodeInput     number = 1
	nodeOutput    number = 2
	nodeName      number = 3
	nodeOpType    number = 4
	nodeAttribute number = 5
	nodeDomain    number = 7
	nodeOverload  number = 8
	nodeMetadata  number = 9

	attributeName          number = 1
	attributeF             number = 2
	attributeI             number = 3
	attributeS             number = 4
	attributeT             number = 5
	attributeG             number = 6
	attributeFloats        number = 7
	attributeInts          number = 8
	attributeStrings       number = 9
	attributeTensors       number = 10
	attributeGraphs        number = 11
	attributeType          number = 20
	attributeRef           number = 21
	attributeSparseTensor  number = 22
	attributeSparseTensors number = 23

	tensorDims         number = 1
	tensorDataType     number = 2
	tensorSegment      number = 3
	tensorFloatData    number = 4
	tensorInt32Data    number = 5
	tensorStringData   number = 6
	tensorInt64Data    number = 7
	tensorName         number = 8
	tensorRawData      number = 9
	tensorDoubleData   number = 10
	tensorUint64Data   number = 11
	tensorExternalData number = 13
	tensorLocation     number = 14
	tensorMetadata     number = 16

	sparseValues  number = 1
	sparseIndices number = 2
	sparseDims    number = 3

	valueName     number = 1
	valueType     number = 2
	valueMetadata number = 4

	typeTensor  number = 1
	tensorElem  number = 1
	tensorShape number = 2
	shapeDim    number = 1
	dimValue    number = 1
	dimParam    number = 2
)
