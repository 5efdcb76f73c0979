; Adam's update of many weights in one pass over memory, as a handler for XLA's foreign function interface.
; `fused_adam.py` compiles it for the CPU at hand and says what goes in and out.
;
; Every operation is IEEE's, in the order written here, and LLVM may not reassociate or contract them. So the result is
; the same at any vector width, on any CPU.

declare float @llvm.sqrt.f32(float)
declare float @llvm.fma.f32(float, float, float)

; One tensor. The hyperparameters: learning rate, step size (both bias corrections folded in), epsilon, the l1 penalty's
; and the l2 penalty's gradient factors, and whether the penalty joins the gradient or (AdamW) the update: 1 or 0 each.
define internal void @update(ptr noalias %weights, ptr noalias %means, ptr noalias %squares,
                             ptr noalias readonly %gradients, i64 %size, float %rate, float %step_size, float %epsilon,
                             float %l1, float %l2, float %coupled, float %decoupled) #0 {
entry:
  %minus_l1 = fneg float %l1
  %minus_rate = fneg float %rate
  %is_empty = icmp eq i64 %size, 0
  br i1 %is_empty, label %done, label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %weight_at = getelementptr inbounds float, ptr %weights, i64 %i
  %mean_at = getelementptr inbounds float, ptr %means, i64 %i
  %square_at = getelementptr inbounds float, ptr %squares, i64 %i
  %gradient_at = getelementptr inbounds float, ptr %gradients, i64 %i
  %weight = load float, ptr %weight_at, align 4
  %mean = load float, ptr %mean_at, align 4
  %square = load float, ptr %square_at, align 4
  %loss_gradient = load float, ptr %gradient_at, align 4

  ; penalty = l1 * sign(weight) + l2 * weight
  %is_positive = fcmp ogt float %weight, 0.0
  %is_negative = fcmp olt float %weight, 0.0
  %minus_or_zero = select i1 %is_negative, float %minus_l1, float 0.0
  %l1_gradient = select i1 %is_positive, float %l1, float %minus_or_zero
  %penalty = call float @llvm.fma.f32(float %l2, float %weight, float %l1_gradient)
  %gradient = call float @llvm.fma.f32(float %coupled, float %penalty, float %loss_gradient)

  ; mean = 0.9 mean + 0.1 gradient;  square = 0.999 square + 0.001 gradient²
  %gradient_share = fmul float %gradient, 0x3FB99999A0000000
  %new_mean = call float @llvm.fma.f32(float %mean, float 0x3FECCCCCC0000000, float %gradient_share)
  %gradient_squared = fmul float %gradient, %gradient
  %squared_share = fmul float %gradient_squared, 0x3F50624DE0000000
  %new_square = call float @llvm.fma.f32(float %square, float 0x3FEFF7CEE0000000, float %squared_share)

  ; 1 / (sqrt(square) + epsilon), by three steps of Newton's method from the guess that the bits give: CPUs have one
  ; slow unit for root and division, and it is busy with the root while the multipliers do this.
  %root = call float @llvm.sqrt.f32(float %new_square)
  %divisor = fadd float %root, %epsilon
  %divisor_bits = bitcast float %divisor to i32
  %guess_bits = sub i32 2129859011, %divisor_bits
  %guess_0 = bitcast i32 %guess_bits to float
  %minus_divisor = fneg float %divisor
  %error_0 = call float @llvm.fma.f32(float %minus_divisor, float %guess_0, float 2.0)
  %guess_1 = fmul float %guess_0, %error_0
  %error_1 = call float @llvm.fma.f32(float %minus_divisor, float %guess_1, float 2.0)
  %guess_2 = fmul float %guess_1, %error_1
  %error_2 = call float @llvm.fma.f32(float %minus_divisor, float %guess_2, float 2.0)
  %reciprocal = fmul float %guess_2, %error_2

  %scaled_mean = fmul float %step_size, %new_mean
  %adam = fmul float %scaled_mean, %reciprocal
  %change = call float @llvm.fma.f32(float %decoupled, float %penalty, float %adam)
  %new_weight = call float @llvm.fma.f32(float %minus_rate, float %change, float %weight)

  store float %new_weight, ptr %weight_at, align 4
  store float %new_mean, ptr %mean_at, align 4
  store float %new_square, ptr %square_at, align 4
  %next = add nuw nsw i64 %i, 1
  %is_last = icmp eq i64 %next, %size
  br i1 %is_last, label %done, label %each

done:
  ret void
}

define ptr @fused_adam(ptr %frame) {
entry:
  %asks_version = call i1 @asks_version(ptr %frame)
  br i1 %asks_version, label %done, label %call

call:
  %inputs = call ptr @inputs(ptr %frame)
  %outputs = call ptr @outputs(ptr %frame)
  %n_outputs = call i64 @n_outputs(ptr %frame)
  %n = udiv i64 %n_outputs, 3
  %hyperparameters = call ptr @data(ptr %inputs, i64 0)
  %rate = call float @number(ptr %hyperparameters, i64 0)
  %step_size = call float @number(ptr %hyperparameters, i64 1)
  %epsilon = call float @number(ptr %hyperparameters, i64 2)
  %all_l1 = call float @number(ptr %hyperparameters, i64 3)
  %all_l2 = call float @number(ptr %hyperparameters, i64 4)
  %coupled = call float @number(ptr %hyperparameters, i64 5)
  %decoupled = call float @number(ptr %hyperparameters, i64 6)
  %first_gradient = add i64 %n_outputs, 1
  br label %each

each:                                                      ; outputs: weights, means, squares, n of each
  %i = phi i64 [ 0, %call ], [ %next, %each ]
  %mean_index = add i64 %n, %i
  %square_index = add i64 %n, %mean_index
  %gradient_index = add i64 %first_gradient, %i
  %weights = call ptr @data(ptr %outputs, i64 %i)
  %means = call ptr @data(ptr %outputs, i64 %mean_index)
  %squares = call ptr @data(ptr %outputs, i64 %square_index)
  %gradients = call ptr @data(ptr %inputs, i64 %gradient_index)
  %rank = call i64 @rank(ptr %outputs, i64 %i)
  %size = call i64 @size(ptr %outputs, i64 %i)
  %is_kernel = icmp ugt i64 %rank, 1                       ; biases are left free
  %l1 = select i1 %is_kernel, float %all_l1, float 0.0
  %l2 = select i1 %is_kernel, float %all_l2, float 0.0
  call void @update(ptr %weights, ptr %means, ptr %squares, ptr %gradients, i64 %size, float %rate, float %step_size,
                    float %epsilon, float %l1, float %l2, float %coupled, float %decoupled)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %each, label %done

done:
  ret ptr null
}

define internal float @number(ptr %numbers, i64 %index) {
  %at = getelementptr inbounds float, ptr %numbers, i64 %index
  %value = load float, ptr %at
  ret float %value
}

attributes #0 = { noinline nounwind "prefer-vector-width"="512" }
