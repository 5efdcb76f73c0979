; Rows of bytes become rows of numbers between 0 and 1. In: images u8[E, F], rows i32[B]. Out: f32[B, F] or bf16[B, F].

declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define internal float @between_0_and_1(i8 %byte) #1 {
  %whole = uitofp i8 %byte to float
  %scaled = fmul float %whole, 0x3F70101020000000          ; 1 / 255
  ret float %scaled
}

define internal void @scale_to_f32(ptr noalias readonly %bytes, ptr noalias %numbers, i64 %size) #0 {
entry:
  br label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %byte_at = getelementptr inbounds i8, ptr %bytes, i64 %i
  %byte = load i8, ptr %byte_at, align 1
  %number = call float @between_0_and_1(i8 %byte)
  %number_at = getelementptr inbounds float, ptr %numbers, i64 %i
  store float %number, ptr %number_at, align 4
  %next = add nuw nsw i64 %i, 1
  %is_last = icmp eq i64 %next, %size
  br i1 %is_last, label %done, label %each

done:
  ret void
}

define internal void @scale_to_bf16(ptr noalias readonly %bytes, ptr noalias %numbers, i64 %size) #0 {
entry:
  br label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %byte_at = getelementptr inbounds i8, ptr %bytes, i64 %i
  %byte = load i8, ptr %byte_at, align 1
  %number = call float @between_0_and_1(i8 %byte)
  %rounded = call i16 @bf16(float %number)
  %number_at = getelementptr inbounds i16, ptr %numbers, i64 %i
  store i16 %rounded, ptr %number_at, align 2
  %next = add nuw nsw i64 %i, 1
  %is_last = icmp eq i64 %next, %size
  br i1 %is_last, label %done, label %each

done:
  ret void
}

; Asks for a row before it is needed: rows come in random order, which no CPU foresees.
define internal void @prefetch(ptr %bytes, i64 %size) #1 {
entry:
  br label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %byte_at = getelementptr inbounds i8, ptr %bytes, i64 %i
  call void @llvm.prefetch.p0(ptr %byte_at, i32 0, i32 3, i32 1)
  %next = add nuw nsw i64 %i, 64
  %more = icmp ult i64 %next, %size
  br i1 %more, label %each, label %done

done:
  ret void
}

define internal ptr @row(ptr %images, ptr %rows, i64 %i, i64 %n_features) #1 {
  %row_at = getelementptr inbounds i32, ptr %rows, i64 %i
  %row = load i32, ptr %row_at, align 4
  %row_long = zext i32 %row to i64
  %index = mul i64 %row_long, %n_features
  %at = getelementptr inbounds i8, ptr %images, i64 %index
  ret ptr %at
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
  %numbers = call ptr @data(ptr %outputs, i64 0)
  %n_rows = call i64 @dimension(ptr %outputs, i64 0, i64 0)
  %n_features = call i64 @dimension(ptr %outputs, i64 0, i64 1)
  %is_bf16 = call i1 @is_bf16(ptr %outputs, i64 0)
  %last = sub i64 %n_rows, 1
  br label %each

each:
  %i = phi i64 [ 0, %call ], [ %next, %scaled ]
  %ahead = add i64 %i, 8
  %is_inside = icmp ult i64 %ahead, %last
  %ahead_or_last = select i1 %is_inside, i64 %ahead, i64 %last
  %wanted_soon = call ptr @row(ptr %images, ptr %rows, i64 %ahead_or_last, i64 %n_features)
  call void @prefetch(ptr %wanted_soon, i64 %n_features)
  %from = call ptr @row(ptr %images, ptr %rows, i64 %i, i64 %n_features)
  %to_index = mul i64 %i, %n_features
  br i1 %is_bf16, label %to_bf16, label %to_f32

to_bf16:
  %bf16_at = getelementptr inbounds i16, ptr %numbers, i64 %to_index
  call void @scale_to_bf16(ptr %from, ptr %bf16_at, i64 %n_features)
  br label %scaled

to_f32:
  %f32_at = getelementptr inbounds float, ptr %numbers, i64 %to_index
  call void @scale_to_f32(ptr %from, ptr %f32_at, i64 %n_features)
  br label %scaled

scaled:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n_rows
  br i1 %more, label %each, label %done

done:
  ret ptr null
}

attributes #0 = { noinline nounwind "prefer-vector-width"="512" }
attributes #1 = { alwaysinline nounwind }
