; Rows become columns. In: numbers [R, C]. Out: the same numbers [C, R]. Blocks of 8 by 8 go through registers.
; `transpose.py` fills in how wide the numbers are, and what happens in a block.

define internal ptr @element(ptr %matrix, i64 %row, i64 %n_columns, i64 %column) #1 {
  %row_start = mul i64 %row, %n_columns
  %index = add i64 %row_start, %column
  %at = getelementptr inbounds ELEMENT, ptr %matrix, i64 %index
  ret ptr %at
}

define internal void @transpose_block(ptr noalias readonly %matrix, ptr noalias %transposed, i64 %row, i64 %column,
                                      i64 %n_rows, i64 %n_columns) #1 {
EXCHANGE
  ret void
}

; The rows from one to another, each between two columns, one number at a time: what no block covers.
define internal void @transpose_edge(ptr noalias readonly %matrix, ptr noalias %transposed, i64 %first_row,
                                     i64 %first_column, i64 %n_rows, i64 %n_columns, i64 %end_row) #0 {
entry:
  %has_rows = icmp ult i64 %first_row, %end_row
  %has_columns = icmp ult i64 %first_column, %n_columns
  %is_any = and i1 %has_rows, %has_columns
  br i1 %is_any, label %each_row, label %done

each_row:
  %row = phi i64 [ %first_row, %entry ], [ %next_row, %row_done ]
  br label %each

each:
  %column = phi i64 [ %first_column, %each_row ], [ %next_column, %each ]
  %from = call ptr @element(ptr %matrix, i64 %row, i64 %n_columns, i64 %column)
  %number = load ELEMENT, ptr %from, align 2
  %to = call ptr @element(ptr %transposed, i64 %column, i64 %n_rows, i64 %row)
  store ELEMENT %number, ptr %to, align 2
  %next_column = add i64 %column, 1
  %more_columns = icmp ult i64 %next_column, %n_columns
  br i1 %more_columns, label %each, label %row_done

row_done:
  %next_row = add i64 %row, 1
  %more_rows = icmp ult i64 %next_row, %end_row
  br i1 %more_rows, label %each_row, label %done

done:
  ret void
}

define internal void @transpose_all(ptr noalias readonly %matrix, ptr noalias %transposed, i64 %n_rows,
                                    i64 %n_columns) #0 {
entry:
  %end_row = and i64 %n_rows, -8
  %end_column = and i64 %n_columns, -8
  %has_rows = icmp ne i64 %end_row, 0
  %has_columns = icmp ne i64 %end_column, 0
  %is_any = and i1 %has_rows, %has_columns
  br i1 %is_any, label %each_column, label %edges

each_column:                                               ; 8 rows of the result, written from left to right
  %column = phi i64 [ 0, %entry ], [ %next_column, %column_done ]
  br label %each

each:
  %row = phi i64 [ 0, %each_column ], [ %next_row, %each ]
  call void @transpose_block(ptr %matrix, ptr %transposed, i64 %row, i64 %column, i64 %n_rows, i64 %n_columns)
  %next_row = add i64 %row, 8
  %more_rows = icmp ult i64 %next_row, %end_row
  br i1 %more_rows, label %each, label %column_done

column_done:
  %next_column = add i64 %column, 8
  %more_columns = icmp ult i64 %next_column, %end_column
  br i1 %more_columns, label %each_column, label %edges

edges:
  call void @transpose_edge(ptr %matrix, ptr %transposed, i64 0, i64 %end_column, i64 %n_rows, i64 %n_columns,
                            i64 %end_row)
  call void @transpose_edge(ptr %matrix, ptr %transposed, i64 %end_row, i64 0, i64 %n_rows, i64 %n_columns, i64 %n_rows)
  ret void
}

define ptr @transpose(ptr %frame) {
entry:
  %asks_version = call i1 @asks_version(ptr %frame)
  br i1 %asks_version, label %done, label %call

call:
  %inputs = call ptr @inputs(ptr %frame)
  %outputs = call ptr @outputs(ptr %frame)
  %matrix = call ptr @data(ptr %inputs, i64 0)
  %transposed = call ptr @data(ptr %outputs, i64 0)
  %n_rows = call i64 @dimension(ptr %inputs, i64 0, i64 0)
  %n_columns = call i64 @dimension(ptr %inputs, i64 0, i64 1)
  call void @transpose_all(ptr %matrix, ptr %transposed, i64 %n_rows, i64 %n_columns)
  br label %done

done:
  ret ptr null
}

attributes #0 = { noinline nounwind }
attributes #1 = { alwaysinline nounwind }
