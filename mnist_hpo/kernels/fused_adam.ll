; Adam's update of many weights in one pass over memory, as a handler for XLA's foreign function interface.
; `fused_adam.py` compiles it for the CPU at hand and says what goes in and out.
;
; Every operation is IEEE's, in the order written here, and LLVM may not reassociate or contract them. So the result is
; the same at any vector width, on any CPU.

declare float @llvm.sqrt.f32(float)
declare double @llvm.sqrt.f64(double)

; Some weights. The hyperparameters: learning rate, step size (both bias corrections folded in), epsilon, the l1 penalty's
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

; The weights as bfloat16, for the products of the next step.
define internal void @round(ptr noalias readonly %weights, ptr noalias %rounded, i64 %size) #0 {
entry:
  %is_empty = icmp eq i64 %size, 0
  br i1 %is_empty, label %done, label %each

each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %weight_at = getelementptr inbounds float, ptr %weights, i64 %i
  %weight = load float, ptr %weight_at, align 4
  %result = call i16 @bf16(float %weight)
  %result_at = getelementptr inbounds i16, ptr %rounded, i64 %i
  store i16 %result, ptr %result_at, align 2
  %next = add nuw nsw i64 %i, 1
  %is_last = icmp eq i64 %next, %size
  br i1 %is_last, label %done, label %each

done:
  ret void
}

; One tensor, in pieces that are rounded while they lie in the nearest cache; `rounded` is null where nobody wants that.
define internal void @update_tensor(ptr noalias %weights, ptr noalias %means, ptr noalias %squares,
                                    ptr noalias readonly %gradients, ptr noalias %rounded, i64 %size, float %rate,
                                    float %step_size, float %epsilon, float %l1, float %l2, float %coupled,
                                    float %decoupled) #1 {
entry:
  %is_rounded = icmp ne ptr %rounded, null
  br label %each

each:
  %start = phi i64 [ 0, %entry ], [ %next, %piece_done ]
  %left = sub i64 %size, %start
  %is_short = icmp ult i64 %left, 2048
  %n = select i1 %is_short, i64 %left, i64 2048
  %weights_at = getelementptr inbounds float, ptr %weights, i64 %start
  %means_at = getelementptr inbounds float, ptr %means, i64 %start
  %squares_at = getelementptr inbounds float, ptr %squares, i64 %start
  %gradients_at = getelementptr inbounds float, ptr %gradients, i64 %start
  call void @update(ptr %weights_at, ptr %means_at, ptr %squares_at, ptr %gradients_at, i64 %n, float %rate,
                    float %step_size, float %epsilon, float %l1, float %l2, float %coupled, float %decoupled)
  br i1 %is_rounded, label %round, label %piece_done

round:
  %rounded_at = getelementptr inbounds i16, ptr %rounded, i64 %start
  call void @round(ptr %weights_at, ptr %rounded_at, i64 %n)
  br label %piece_done

piece_done:
  %next = add i64 %start, %n
  %more = icmp ult i64 %next, %size
  br i1 %more, label %each, label %done

done:
  ret void
}

; A number to a whole power, by squaring.
define internal double @power(double %base, i64 %exponent) #1 {
entry:
  br label %each

each:
  %factor = phi double [ %base, %entry ], [ %squared, %each ]
  %result = phi double [ 1.0, %entry ], [ %new_result, %each ]
  %left = phi i64 [ %exponent, %entry ], [ %halved, %each ]
  %low_bit = and i64 %left, 1
  %is_odd = icmp ne i64 %low_bit, 0
  %multiplied = fmul double %result, %factor
  %new_result = select i1 %is_odd, double %multiplied, double %result
  %squared = fmul double %factor, %factor
  %halved = lshr i64 %left, 1
  %more = icmp ne i64 %halved, 0
  br i1 %more, label %each, label %done

done:
  ret double %new_result
}

; In: learning rate, l1, l2, whether decoupled (1 or 0): f32[] each; then what is changed; then n gradients.
; Changed: n weights, n means, n squares; the number of updates; the rounded kernels, all of them or none.
define ptr @fused_adam(ptr %frame) {
entry:
  %asks_version = call i1 @asks_version(ptr %frame)
  br i1 %asks_version, label %done, label %call

call:
  %inputs = call ptr @inputs(ptr %frame)
  %outputs = call ptr @outputs(ptr %frame)
  %n_inputs = call i64 @n_inputs(ptr %frame)
  %n_outputs = call i64 @n_outputs(ptr %frame)
  %first_gradient = add i64 %n_outputs, 4
  %n = sub i64 %n_inputs, %first_gradient
  %count_index = mul i64 %n, 3
  %first_rounded = add i64 %count_index, 1
  %has_rounded = icmp ult i64 %first_rounded, %n_outputs

  %rate = call float @number(ptr %inputs, i64 0)
  %all_l1 = call float @number(ptr %inputs, i64 1)
  %l2_factor = call float @number(ptr %inputs, i64 2)
  %all_l2 = fmul float %l2_factor, 2.0
  %decoupled = call float @number(ptr %inputs, i64 3)
  %coupled = fsub float 1.0, %decoupled

  ; Both bias corrections as one step size and one epsilon.
  %count_at = call ptr @data(ptr %outputs, i64 %count_index)
  %n_before = load float, ptr %count_at
  %n_updates = fadd float %n_before, 1.0
  store float %n_updates, ptr %count_at
  %exponent = fptoui float %n_updates to i64
  %mean_decay = call double @power(double 0.9, i64 %exponent)
  %square_decay = call double @power(double 0.999, i64 %exponent)
  %mean_share = fsub double 1.0, %mean_decay
  %square_share = fsub double 1.0, %square_decay
  %correction = call double @llvm.sqrt.f64(double %square_share)
  %exact_step_size = fdiv double %correction, %mean_share
  %exact_epsilon = fmul double %correction, 1.0e-8
  %step_size = fptrunc double %exact_step_size to float
  %epsilon = fptrunc double %exact_epsilon to float
  br label %each

each:
  %i = phi i64 [ 0, %call ], [ %next, %updated ]
  %rounded_index = phi i64 [ %first_rounded, %call ], [ %next_rounded_index, %updated ]
  %mean_index = add i64 %n, %i
  %square_index = add i64 %n, %mean_index
  %gradient_index = add i64 %first_gradient, %i
  %weights = call ptr @data(ptr %outputs, i64 %i)
  %means = call ptr @data(ptr %outputs, i64 %mean_index)
  %squares = call ptr @data(ptr %outputs, i64 %square_index)
  %gradients = call ptr @data(ptr %inputs, i64 %gradient_index)
  %rank = call i64 @rank(ptr %outputs, i64 %i)
  %size = call i64 @size(ptr %outputs, i64 %i)
  %is_kernel = icmp ugt i64 %rank, 1                       ; biases are left free, and enter no product
  %l1 = select i1 %is_kernel, float %all_l1, float 0.0
  %l2 = select i1 %is_kernel, float %all_l2, float 0.0
  %is_rounded = and i1 %is_kernel, %has_rounded
  br i1 %is_rounded, label %find_rounded, label %update

find_rounded:
  %found = call ptr @data(ptr %outputs, i64 %rounded_index)
  %after_found = add i64 %rounded_index, 1
  br label %update

update:
  %rounded = phi ptr [ %found, %find_rounded ], [ null, %each ]
  %next_rounded_index = phi i64 [ %after_found, %find_rounded ], [ %rounded_index, %each ]
  call void @update_tensor(ptr %weights, ptr %means, ptr %squares, ptr %gradients, ptr %rounded, i64 %size, float %rate,
                           float %step_size, float %epsilon, float %l1, float %l2, float %coupled, float %decoupled)
  br label %updated

updated:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %each, label %done

done:
  ret ptr null
}

define internal float @number(ptr %buffers, i64 %index) {
  %at = call ptr @data(ptr %buffers, i64 %index)
  %value = load float, ptr %at
  ret float %value
}

attributes #0 = { noinline nounwind "prefer-vector-width"="512" }
attributes #1 = { nounwind }
