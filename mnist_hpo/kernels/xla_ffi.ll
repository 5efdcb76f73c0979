; What every handler for XLA's foreign function interface needs: XLA's C structures (xla/ffi/api/c_api.h, API 0.3), as far
; as they are read here, and how to get at the buffers. `native.py` puts this in front of each kernel's file.

%Extension = type { i64, i32, ptr, ptr }                   ; size, type, next, metadata
%Metadata = type { i64, i64, ptr, i32, i32, i32, i64 }     ; size, (size, extension, major, minor), traits, state type
%Values = type { i64, ptr, i64, ptr, ptr }                 ; size, extension, count, types, values
%CallFrame = type { i64, ptr, ptr, ptr, i32, %Values, %Values }  ; size, extension, api, context, stage, in, out
%Buffer = type { i64, ptr, i32, ptr, i64, ptr }            ; size, extension, dtype, data, rank, dims

; XLA first asks which version of the interface a handler was written for. Answers that; says whether it was that.
define internal i1 @asks_version(ptr %frame) {
entry:
  %extension_at = getelementptr inbounds %CallFrame, ptr %frame, i32 0, i32 1
  %extension = load ptr, ptr %extension_at
  %is_call = icmp eq ptr %extension, null
  br i1 %is_call, label %no, label %extended

extended:
  %type_at = getelementptr inbounds %Extension, ptr %extension, i32 0, i32 1
  %type = load i32, ptr %type_at
  %asks_metadata = icmp eq i32 %type, 1
  br i1 %asks_metadata, label %yes, label %no

yes:
  %metadata_at = getelementptr inbounds %Extension, ptr %extension, i32 0, i32 3
  %metadata = load ptr, ptr %metadata_at
  %major_at = getelementptr inbounds %Metadata, ptr %metadata, i32 0, i32 3
  store i32 0, ptr %major_at
  %minor_at = getelementptr inbounds %Metadata, ptr %metadata, i32 0, i32 4
  store i32 3, ptr %minor_at
  %traits_at = getelementptr inbounds %Metadata, ptr %metadata, i32 0, i32 5
  store i32 0, ptr %traits_at
  %state_at = getelementptr inbounds %Metadata, ptr %metadata, i32 0, i32 6
  store i64 0, ptr %state_at
  ret i1 true

no:
  ret i1 false
}

define internal ptr @inputs(ptr %frame) {
  %at = getelementptr inbounds %CallFrame, ptr %frame, i32 0, i32 5, i32 4
  %inputs = load ptr, ptr %at
  ret ptr %inputs
}

define internal ptr @outputs(ptr %frame) {
  %at = getelementptr inbounds %CallFrame, ptr %frame, i32 0, i32 6, i32 4
  %outputs = load ptr, ptr %at
  ret ptr %outputs
}

define internal i64 @n_inputs(ptr %frame) {
  %at = getelementptr inbounds %CallFrame, ptr %frame, i32 0, i32 5, i32 2
  %count = load i64, ptr %at
  ret i64 %count
}

define internal i64 @n_outputs(ptr %frame) {
  %at = getelementptr inbounds %CallFrame, ptr %frame, i32 0, i32 6, i32 2
  %count = load i64, ptr %at
  ret i64 %count
}

define internal ptr @data(ptr %buffers, i64 %index) {
  %buffer_at = getelementptr inbounds ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %buffer_at
  %data_at = getelementptr inbounds %Buffer, ptr %buffer, i32 0, i32 3
  %data = load ptr, ptr %data_at
  ret ptr %data
}

define internal i64 @rank(ptr %buffers, i64 %index) {
  %buffer_at = getelementptr inbounds ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %buffer_at
  %rank_at = getelementptr inbounds %Buffer, ptr %buffer, i32 0, i32 4
  %rank = load i64, ptr %rank_at
  ret i64 %rank
}

define internal i64 @dimension(ptr %buffers, i64 %index, i64 %axis) {
  %buffer_at = getelementptr inbounds ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %buffer_at
  %dims_at = getelementptr inbounds %Buffer, ptr %buffer, i32 0, i32 5
  %dims = load ptr, ptr %dims_at
  %dim_at = getelementptr inbounds i64, ptr %dims, i64 %axis
  %dim = load i64, ptr %dim_at
  ret i64 %dim
}

define internal i64 @size(ptr %buffers, i64 %index) {
entry:
  %buffer_at = getelementptr inbounds ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %buffer_at
  %dims_at = getelementptr inbounds %Buffer, ptr %buffer, i32 0, i32 5
  %dims = load ptr, ptr %dims_at
  %rank = call i64 @rank(ptr %buffers, i64 %index)
  br label %more

more:
  %axis = phi i64 [ 0, %entry ], [ %next, %multiply ]
  %size = phi i64 [ 1, %entry ], [ %product, %multiply ]
  %has_axis = icmp ult i64 %axis, %rank
  br i1 %has_axis, label %multiply, label %done

multiply:
  %dim_at = getelementptr inbounds i64, ptr %dims, i64 %axis
  %dim = load i64, ptr %dim_at
  %product = mul i64 %size, %dim
  %next = add i64 %axis, 1
  br label %more

done:
  ret i64 %size
}

; Whether a buffer holds bfloat16 (XLA's number for it) and not float32.
define internal i1 @is_bf16(ptr %buffers, i64 %index) {
  %buffer_at = getelementptr inbounds ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %buffer_at
  %dtype_at = getelementptr inbounds %Buffer, ptr %buffer, i32 0, i32 2
  %dtype = load i32, ptr %dtype_at
  %is_bf16 = icmp eq i32 %dtype, 16
  ret i1 %is_bf16
}

; The nearest bfloat16, of two the even one, in whole numbers: CPUs that have an instruction for it flush small ones.
define internal i16 @bf16(float %number) alwaysinline {
  %bits = bitcast float %number to i32
  %shifted = lshr i32 %bits, 16
  %is_odd = and i32 %shifted, 1
  %half = add i32 %is_odd, 32767
  %rounded = add i32 %bits, %half
  %upper = lshr i32 %rounded, 16
  %result = trunc i32 %upper to i16
  ret i16 %result
}
