; Rows of bytes become rows of floats between 0 and 1. In: images u8[E, F], rows i32[B]. Out: f32[B, F].

define internal void @scale(ptr noalias readonly %bytes, ptr noalias %floats, i64 %size) #0 {
entry:
  br label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %byte_at = getelementptr inbounds i8, ptr %bytes, i64 %i
  %byte = load i8, ptr %byte_at, align 1
  %whole = uitofp i8 %byte to float
  %scaled = fmul float %whole, 0x3F70101020000000          ; 1 / 255
  %float_at = getelementptr inbounds float, ptr %floats, i64 %i
  store float %scaled, ptr %float_at, align 4
  %next = add nuw nsw i64 %i, 1
  %is_last = icmp eq i64 %next, %size
  br i1 %is_last, label %done, label %each

done:
  ret void
}

define ptr @gather_pixels(ptr %frame) {
entry:
  %asks_version = call i1 @asks_version(ptr %frame)
  br i1 %asks_version, label %done, label %call

call:
  %inputs = call ptr @inputs(ptr %frame)
  %outputs = call ptr @outputs(ptr %frame)
  %images = call ptr @data(ptr %inputs, i64 0)
  %rows = call ptr @data(ptr %inputs, i64 1)
  %floats = call ptr @data(ptr %outputs, i64 0)
  %n_rows = call i64 @size(ptr %inputs, i64 1)
  %n_floats = call i64 @size(ptr %outputs, i64 0)
  %n_features = udiv i64 %n_floats, %n_rows
  br label %each

each:
  %i = phi i64 [ 0, %call ], [ %next, %each ]
  %row_at = getelementptr inbounds i32, ptr %rows, i64 %i
  %row = load i32, ptr %row_at, align 4
  %row_long = zext i32 %row to i64
  %from_index = mul i64 %row_long, %n_features
  %to_index = mul i64 %i, %n_features
  %from = getelementptr inbounds i8, ptr %images, i64 %from_index
  %to = getelementptr inbounds float, ptr %floats, i64 %to_index
  call void @scale(ptr %from, ptr %to, i64 %n_features)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n_rows
  br i1 %more, label %each, label %done

done:
  ret ptr null
}

attributes #0 = { noinline nounwind "prefer-vector-width"="512" }
